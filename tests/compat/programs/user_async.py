"""Coroutines of driver and actors: gather, wait_for, as_completed, async for, contextvars, locks, tasks left behind."""

import asyncio
import contextvars

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
def square(x):
    return x * x


@ray.remote
def fails(x):
    raise KeyError(x)


@ray.remote(num_cpus=0)
class Server:
    def __init__(self):
        self.lock, self.event = asyncio.Lock(), asyncio.Event()
        self.order, self.background = [], None
        self.where = contextvars.ContextVar("where", default="nowhere")

    async def set(self):
        self.event.set()

    async def waits(self, name):
        await self.event.wait()
        return name

    async def locked(self, name):
        async with self.lock:
            self.order.append(f"{name} in")
            await asyncio.sleep(0.01)
            self.order.append(f"{name} out")
        return list(self.order)

    async def context(self, value):
        before = self.where.get()
        self.where.set(value)
        await asyncio.sleep(0.01)
        return before, self.where.get()

    async def nested(self, refs):
        first = await square.remote(3)
        rest = await asyncio.gather(*refs)
        try:
            await fails.remote("k")
        except KeyError as error:
            return first, rest, type(error).__name__, isinstance(error, ray.exceptions.RayTaskError)

    async def start(self):
        async def later():
            await asyncio.sleep(0.05)
            return "done later"

        self.background = asyncio.create_task(later())

    async def finish(self):
        return await self.background

    async def items(self, n):
        for i in range(n):
            await asyncio.sleep(0)
            yield i

    async def raises(self):
        await asyncio.sleep(0)
        raise ValueError("in a coroutine")

    async def name(self):
        return asyncio.current_task() is not None, asyncio.get_running_loop().is_running()

    def plain(self):
        return "plain"


async def main():
    server = Server.remote()
    waiting = [server.waits.remote(n) for n in "abc"]
    await server.set.remote()
    print(await asyncio.gather(*waiting))
    print((await asyncio.gather(*[server.locked.remote(n) for n in "xyz"]))[-1][::2])
    print(await server.context.remote("one"), await server.context.remote("two"))
    print(await server.nested.remote([square.remote(i) for i in range(3)]))
    await server.start.remote()
    print(await server.finish.remote())
    print([await ref async for ref in server.items.options(num_returns="streaming").remote(3)])
    print(await server.name.remote(), await server.plain.remote())
    try:
        await server.raises.remote()
    except ValueError as error:
        print(type(error).__name__, isinstance(error, ray.exceptions.RayTaskError), "in a coroutine" in str(error))
    results = await asyncio.gather(square.remote(2), fails.remote("f"), return_exceptions=True)
    print(results[0], isinstance(results[1], KeyError))
    print(await asyncio.wait_for(square.remote(4), 30))
    try:
        await asyncio.wait_for(Server.remote().waits.remote("never"), 0.2)
    except (asyncio.TimeoutError, TimeoutError) as error:
        print("wait_for:", isinstance(error, TimeoutError))
    found = [await next_ for next_ in asyncio.as_completed([square.remote(i) for i in range(4)])]
    print(sorted(found))
    done, rest = await asyncio.wait([asyncio.wrap_future(square.remote(i).future()) for i in range(3)])
    print(len(done), len(rest), sorted(f.result() for f in done))
    done, rest = await asyncio.wait([asyncio.ensure_future(wrap(square.remote(i))) for i in range(3)])
    print(sorted(t.result() for t in done))
    ref = square.remote(7)
    print(await ref, await ref, await asyncio.shield(wrap(ref)))
    print(await asyncio.to_thread(ray.get, square.remote(6)))
    async with asyncio.timeout(30) if hasattr(asyncio, "timeout") else asyncio.Lock():
        print(await square.remote(8))


async def wrap(ref):
    return await ref


asyncio.run(main())
print(asyncio.run(wrap(square.remote(10))))

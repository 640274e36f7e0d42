"""Streaming in coroutines."""

import asyncio

import hpc as ray

ray.init(num_cpus=2)


def show(what, refs):
    out = []
    for ref in refs:
        try:
            out.append(ray.get(ref, timeout=20))
        except ray.exceptions.TaskCancelledError:
            out.append("cancelled")
        except Exception as error:
            out.append([kind.__name__ for kind in (ValueError, RuntimeError, TypeError) if isinstance(error, kind)])
    print(what, out)


@ray.remote(max_retries=0)
def items(n, fail=False):
    for i in range(n):
        yield i
    if fail:
        raise RuntimeError("stopped")


async def collect(generator):
    out = []
    async for ref in generator:
        try:
            out.append(await ref)
        except RuntimeError:
            out.append("an error")
    return out


print(asyncio.run(collect(items.remote(4))))
print(asyncio.run(collect(items.remote(2, True))))


async def by_hand():
    generator, out = items.remote(2), []
    while True:
        try:
            out.append(await (await generator.__anext__()))
        except StopAsyncIteration:
            return out


print(asyncio.run(by_hand()))


async def both():
    return await asyncio.gather(collect(items.remote(3)), collect(items.remote(2)))


print(asyncio.run(both()))

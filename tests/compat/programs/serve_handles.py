"""Handles of deployments: values, errors, options, responses as arguments, streams, broadcast, cancelling."""

import asyncio
import pickle
import re

import hpc as ray
from hpc import serve
from hpc.serve.handle import DeploymentHandle, DeploymentResponse, DeploymentResponseGenerator

ray.init(num_cpus=8)
serve.start(proxy_location="Disabled")


@ray.remote(num_cpus=0)
class Board:
    def __init__(self):
        self.words = []
        self.open = asyncio.Event()

    async def say(self, word):
        self.words.append(word)

    async def wait_for(self, word):
        while word not in self.words:
            await asyncio.sleep(0.01)
        return word

    async def opened(self):
        await self.open.wait()

    async def set(self):
        self.open.set()


board = Board.remote()


@serve.deployment(max_ongoing_requests=2)
class Adder:
    def __init__(self, step=1):
        self.step = step

    def __call__(self, value, times=1):
        return value + self.step * times

    async def later(self, value):
        await asyncio.sleep(0.01)
        return value + self.step

    def fails(self):
        raise KeyError("no such key")

    def items(self, count):
        yield from range(count)

    async def some(self, count):
        for number in range(count):
            yield number
        raise ValueError("after the last")

    async def waits(self, name):
        try:
            await board.say.remote(f"began {name}")
            await board.opened.remote()
        except asyncio.CancelledError:
            await board.say.remote(f"cancelled {name}")
            raise
        return name

    def who(self):
        here = serve.get_replica_context()
        return here.deployment, here.app_name, type(here.servable_object).__name__, here.world_size


@serve.deployment
class Front:
    def __init__(self, adder):
        self.adder = adder

    async def __call__(self, value):
        return await self.adder.remote(self.adder.remote(value))

    async def waits(self, name):
        return await self.adder.waits.remote(name)

    async def blocks(self):
        response = self.adder.remote(1)
        try:
            response.result()
        except RuntimeError as error:
            return f"RuntimeError {error}"

    async def streams(self, count):
        return [number async for number in self.adder.options(stream=True).items.remote(count)]


KINDS = (
    KeyError, TypeError, ValueError, RuntimeError, TimeoutError, ray.exceptions.RayTaskError,
    ray.exceptions.GetTimeoutError, ray.exceptions.TaskCancelledError, serve.exceptions.RayServeException,
    serve.exceptions.RequestCancelledError,
)  # fmt: skip


def shown(what, call):
    try:
        print(what, repr(call()))
    except Exception as error:
        print(what, [kind.__name__ for kind in KINDS if isinstance(error, kind)])
        print("   ", re.sub("[0-9a-f-]{32,}", "ID", str(error).strip().splitlines()[-1]))


async def awaited(response):
    return await response


async def read(response):
    return [item async for item in response]


front = serve.run(Front.bind(Adder.bind(10)), name="app", route_prefix=None)
handle = serve.get_deployment_handle("Adder", "app")
print(type(front) is DeploymentHandle, front, front.deployment_name, front.app_name)
print(type(handle.remote(1)) is DeploymentResponse)
print(type(handle.options(stream=True).items.remote(1)) is DeploymentResponseGenerator)

shown("call", lambda: handle.remote(1).result())
shown("keywords", lambda: handle.remote(1, times=3).result())
shown("method", lambda: handle.later.remote(5).result())
shown("method by option", lambda: handle.options(method_name="later").remote(5).result())
shown("twice", lambda: (lambda response: (response.result(), response.result()))(handle.remote(2)))
shown("error", lambda: handle.fails.remote().result())
shown("no such method", lambda: handle.missing.remote().result())
shown("too many arguments", lambda: handle.remote(1, 2, 3).result())
shown("who", lambda: handle.who.remote().result())
shown("composition", lambda: front.remote(1).result())
shown("result in a loop", lambda: front.blocks.remote().result())
shown("response as argument", lambda: handle.remote(handle.remote(1), times=handle.remote(0)).result())
shown("failed response as argument", lambda: handle.remote(handle.fails.remote()).result())
shown("a response inside of a list", lambda: handle.remote([handle.remote(1)]).result())
shown("a stream as argument", lambda: handle.remote(handle.options(stream=True).items.remote(1)).result())
shown("pickled response", lambda: pickle.dumps(handle.remote(1)))
shown("pickled handle", lambda: pickle.loads(pickle.dumps(handle.later)).remote(1).result())
shown("reference", lambda: ray.get(handle.remote(1)._to_object_ref_sync()))
shown("reference as argument", lambda: handle.remote(ray.put(4)).result())

shown("stream", lambda: list(handle.options(stream=True).items.remote(4)))
shown("stream in a replica", lambda: front.streams.remote(3).result())
shown("generator without stream", lambda: handle.items.remote(4).result())
shown("stream without generator", lambda: list(handle.options(stream=True).remote(4)))
shown("result of a stream", lambda: handle.options(stream=True).items.remote(4).result())
stream = handle.options(stream=True).some.remote(2)
shown("first", lambda: next(stream))
shown("second", lambda: next(stream))
shown("then", lambda: next(stream))
shown("await a stream", lambda: asyncio.run(awaited(handle.options(stream=True).items.remote(2))))


shown("await", lambda: asyncio.run(awaited(handle.remote(3))))
shown("async for", lambda: asyncio.run(read(handle.options(stream=True).items.remote(3))))
shown("broadcast", lambda: handle.broadcast("later", 1).results())
shown("broadcast of a failure", lambda: handle.broadcast("fails").results())

running = handle.waits.remote("one")
ray.get(board.wait_for.remote("began one"))
shown("timeout", lambda: running.result(timeout_s=0.1))
other = handle.waits.remote("two")
ray.get(board.wait_for.remote("began two"))
queued = handle.waits.remote("three")
shown("timeout in the queue", lambda: queued.result(timeout_s=0.1))
print(queued.cancelled(), queued.cancel(), queued.cancelled())
shown("cancelled in the queue", lambda: queued.result(timeout_s=10))
other.cancel()
print(ray.get(board.wait_for.remote("cancelled two")))
try:
    other.result(timeout_s=10)
except ray.exceptions.TaskCancelledError:
    print("cancelled as it ran: TaskCancelledError")
parent = front.waits.remote("four")
ray.get(board.wait_for.remote("began four"))
parent.cancel()
print(ray.get(board.wait_for.remote("cancelled four")))
ray.get(board.set.remote())
shown("the first goes on", lambda: running.result())
shown("no such deployment", lambda: serve.get_deployment_handle("Missing", "app").options(method_name="x"))
serve.shutdown()

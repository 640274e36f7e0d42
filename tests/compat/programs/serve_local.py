"""An application in the process of a test: no session, the same code."""

import asyncio

from hpc import serve


def shown(what, call):
    try:
        print(what, repr(call()))
    except Exception as error:
        print(what, type(error).__name__, "-", str(error).strip().splitlines()[-1])


@serve.deployment
class Inner:
    def __init__(self, step):
        self.step = step

    def __call__(self, value):
        return value + self.step

    def fails(self):
        raise KeyError("no")

    async def items(self, count):
        for number in range(count):
            yield number

    def who(self):
        here = serve.get_replica_context()
        return here.deployment, here.app_name


@serve.deployment
class Outer:
    def __init__(self, inner):
        self.inner = inner
        self.factor = 3

    async def __call__(self, value):
        return self.factor * await self.inner.remote(value)

    async def chained(self, value):
        return await self.inner.remote(self.inner.remote(value))

    async def stream(self, count):
        async for number in self.inner.options(stream=True).items.remote(count):
            yield 10 * number

    async def fails(self):
        return await self.inner.fails.remote()

    async def who(self):
        return await self.inner.who.remote()


handle = serve.run(Outer.bind(Inner.bind(2)), name="local", _local_testing_mode=True)
print(type(handle).__name__)
shown("call", lambda: handle.remote(1).result())
shown("chained", lambda: handle.chained.remote(1).result())
shown("stream", lambda: list(handle.options(stream=True).stream.remote(4)))
shown("fails", lambda: handle.fails.remote().result())
shown("who", lambda: handle.who.remote().result())
shown("missing", lambda: handle.missing.remote().result())


async def run():
    return await handle.remote(2), [number async for number in handle.options(stream=True).stream.remote(2)]


shown("await", lambda: asyncio.run(run()))


@serve.deployment
class Bad:
    def __init__(self):
        raise ValueError("it cannot be made")


shown("bad", lambda: serve.run(Bad.bind(), name="bad", _local_testing_mode=True))


@serve.deployment
def function(value: str) -> str:
    return value.upper()


shown("function", lambda: serve.run(function.bind(), name="function", _local_testing_mode=True).remote("a").result())

"""Actors with coroutines: the constructor's loop, get in a coroutine, limits, an async function that is no actor."""

import asyncio
import time

import hpc as ray

ray.init(num_cpus=3)


@ray.remote
class Poller:
    def __init__(self, how):
        self.ticks = 0
        if how == "create_task":
            self.task = asyncio.create_task(self.poll())
        elif how == "get_running_loop":
            self.task = asyncio.get_running_loop().create_task(self.poll())
        else:
            self.task = asyncio.ensure_future(self.poll())
        self.loop = asyncio.get_running_loop()

    async def poll(self):
        while True:
            self.ticks += 1
            await asyncio.sleep(0.01)

    async def count(self):
        await asyncio.sleep(0.1)
        return self.ticks > 0, self.loop is asyncio.get_running_loop()

    def plain(self):
        return self.loop is asyncio.get_running_loop()


for how in ("create_task", "get_running_loop", "ensure_future"):
    actor = Poller.remote(how)
    print(how, ray.get(actor.count.remote()), ray.get(actor.plain.remote()))


@ray.remote
def late(x):
    time.sleep(0.1)
    return x


@ray.remote
class Blocks:
    async def get(self):
        return ray.get(late.remote(5))

    async def wait(self):
        return len(ray.wait([late.remote(5)])[0])

    async def awaits(self):
        return await late.remote(6), await asyncio.gather(late.remote(1), late.remote(2))

    async def fails(self):
        raise KeyError("no")


blocks = Blocks.remote()
print(ray.get([blocks.get.remote(), blocks.wait.remote(), blocks.awaits.remote()]))
try:
    ray.get(blocks.fails.remote())
except KeyError as error:
    print("KeyError", type(error).__name__)


@ray.remote(max_concurrency=2)
class Two:
    def __init__(self):
        self.now = self.most = 0

    async def run(self):
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.02)
        self.now -= 1

    async def seen(self):
        return self.most


two = Two.remote()
ray.get([two.run.remote() for _ in range(6)])
print("at most", ray.get(two.seen.remote()))
try:

    @ray.remote
    async def task():
        return 1
except ValueError as error:
    print("ValueError", "async def" in str(error))


@ray.remote
def wrapped():
    async def inner():
        await asyncio.sleep(0)
        return "wrapped"

    return asyncio.run(inner())


print(ray.get(wrapped.remote()))

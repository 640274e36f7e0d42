"""Coroutines of an actor that await references: of tasks, of its own earlier calls, of failed ones."""

import asyncio

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
def give(value):
    return value


@ray.remote
def fail():
    raise ValueError("awaited")


@ray.remote
class Waits:
    async def wait_for(self, refs):
        return await refs[0]

    async def many(self, refs):
        return await asyncio.gather(*refs)

    async def failing(self):
        try:
            await fail.remote()
        except ValueError as error:
            return "awaited" in str(error)

    async def value(self, value):
        await asyncio.sleep(0)
        return value


actor = Waits.remote()
print(ray.get(actor.wait_for.remote([give.remote(1)])))
print(ray.get(actor.many.remote([give.remote(n) for n in range(4)])))
print(ray.get(actor.failing.remote()))
first = actor.value.remote("own")
print(ray.get(actor.wait_for.remote([first])), ray.get(actor.value.remote(first)))

"""Actors that call themselves: what can end, does."""

import asyncio
import time

import hpc as ray

ray.init(num_cpus=4)


def me():
    return ray.get_runtime_context().current_actor


@ray.remote
def add(x):
    return x + 1


@ray.remote
class Counter:
    def __init__(self):
        self.count = 0
        self.refs = []

    def increase(self, by=1):
        self.count += by
        return self.count

    def with_a_timeout(self):
        try:
            return ray.get(me().increase.remote(), timeout=0.3)
        except ray.exceptions.GetTimeoutError:
            return "not in time"

    def first_of_two(self):
        ready, rest = ray.wait([me().increase.remote(), add.remote(1)], num_returns=1)
        return len(ready), len(rest)

    def both_of_two(self):
        ready, rest = ray.wait([me().increase.remote(), add.remote(1)], num_returns=2, timeout=0.5)
        return len(ready) < 2, len(rest) > 0

    def returns_the_reference(self):
        return [me().increase.remote(10)]

    def keeps_the_reference(self):
        self.refs.append(me().increase.remote(100))

    def uses_the_reference(self):
        return ray.get(self.refs.pop())

    def calls(self):
        return ray.get([add.remote(me().increase.remote()), me().increase.remote()])[0]


counter = Counter.remote()
print(ray.get(counter.with_a_timeout.remote()))
print(ray.get(counter.first_of_two.remote()))
print(ray.get(counter.both_of_two.remote()))
print(ray.get(ray.get(counter.returns_the_reference.remote())))
ray.get(counter.keeps_the_reference.remote())
time.sleep(0.5)
print(ray.get(counter.uses_the_reference.remote()))
several = Counter.options(max_concurrency=3).remote()
print(ray.get(several.with_a_timeout.remote()) in (1, "not in time"), ray.get(several.calls.remote()) > 1)


@ray.remote
class Coroutines:
    async def one(self):
        return 1

    async def awaits(self):
        return await me().one.remote()

    async def gathers(self):
        return await asyncio.gather(*[me().one.remote() for _ in range(3)])

    async def on_a_thread(self):
        return await asyncio.to_thread(ray.get, me().one.remote())

    async def with_a_timeout(self):
        try:
            return ray.get(me().one.remote(), timeout=0.3)
        except ray.exceptions.GetTimeoutError:
            return "not in time"

    async def when_it_is_there(self):
        ref = me().one.remote()
        await asyncio.sleep(0.5)
        return ray.get(ref)


actor = Coroutines.remote()
for name in ("awaits", "gathers", "on_a_thread", "with_a_timeout", "when_it_is_there"):
    print(name, ray.get(getattr(actor, name).remote()))

"""@serve.batch and @serve.multiplexed: sizes, order, errors, streams, limits."""

import asyncio

import hpc as ray
from hpc import serve

ray.init(num_cpus=4)
serve.start(proxy_location="Disabled")


KINDS = (TypeError, ValueError, RuntimeError, ray.exceptions.RayTaskError, serve.exceptions.RayServeException)


def shown(what, call):
    try:
        print(what, repr(call()))
    except Exception as error:
        print(what, [kind.__name__ for kind in KINDS if isinstance(error, kind)])
        print("   ", str(error).strip().splitlines()[-1])


@serve.deployment(max_ongoing_requests=20)
class Batched:
    def __init__(self):
        self.sizes = []

    @serve.batch(max_batch_size=4, batch_wait_timeout_s=0.2)
    async def double(self, values):
        self.sizes.append(len(values))
        return [2 * value for value in values]

    @serve.batch(max_batch_size=3, batch_wait_timeout_s=0.2)
    async def two(self, first, second):
        return [(a, b) for a, b in zip(first, second)]

    @serve.batch(max_batch_size=2, batch_wait_timeout_s=0.1)
    async def short(self, values):
        return values[:-1]

    @serve.batch(max_batch_size=2, batch_wait_timeout_s=0.1)
    async def bad(self, values):
        raise ValueError(f"bad {sorted(values)}")

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.1, batch_size_fn=sum)
    async def weighed(self, values):
        self.sizes.append(tuple(values))
        return values

    @serve.batch(max_batch_size=3, batch_wait_timeout_s=0.1)
    async def stream(self, counts):
        for number in range(max(counts)):
            yield [number if number < count else StopIteration for count in counts]

    async def __call__(self, what, *args):
        return await getattr(self, what)(*args)

    async def read(self, count):
        return [item async for item in self.stream(count)]

    async def take_sizes(self):
        sizes, self.sizes = self.sizes, []
        return sizes

    async def resize(self, size):
        self.double.set_max_batch_size(size)
        self.double.set_batch_wait_timeout_s(0.1)
        return self.double._get_max_batch_size(), self.double._get_batch_wait_timeout_s()


handle = serve.run(Batched.bind(), name="batches", route_prefix=None)


def many(*calls):
    return [response.result() for response in [handle.remote(*call) for call in calls]]


shown("eight", lambda: many(*[("double", number) for number in range(8)]))
shown("sizes", lambda: handle.take_sizes.remote().result())
shown("one", lambda: many(("double", 5)))
shown("sizes", lambda: handle.take_sizes.remote().result())
shown("two parameters", lambda: many(("two", 1, 2), ("two", 3, 4), ("two", 5, 6)))
shown("short", lambda: many(("short", 1), ("short", 2)))
shown("bad", lambda: many(("bad", 1), ("bad", 2)))
shown("too heavy", lambda: many(("weighed", 9)))
shown("heavy", lambda: many(("weighed", 8)))
shown("sizes", lambda: handle.take_sizes.remote().result())
shown("streams", lambda: [r.result() for r in [handle.read.remote(count) for count in (1, 3, 2)]])
shown("resized", lambda: handle.resize.remote(2).result())
shown("four", lambda: many(*[("double", number) for number in range(4)]))
shown("sizes", lambda: handle.take_sizes.remote().result())

for options in (
    {"max_batch_size": 0}, {"max_batch_size": 1.5}, {"max_batch_size": "a"}, {"batch_wait_timeout_s": -1},
    {"batch_wait_timeout_s": "x"}, {"max_concurrent_batches": 0}, {"batch_size_fn": 3},
):  # fmt: skip
    shown(options, lambda: serve.batch(**options))  # noqa: B023
shown("plain function", lambda: serve.batch(lambda values: values))
shown("no function", lambda: serve.batch("x"))


@serve.deployment(max_ongoing_requests=20)
class Models:
    def __init__(self):
        self.loads = []

    @serve.multiplexed(max_num_models_per_replica=2)
    async def model(self, model_id):
        self.loads.append(model_id)
        if model_id == "bad":
            raise ValueError("cannot load bad")
        return model_id.upper()

    async def __call__(self):
        return await self.model(serve.get_multiplexed_model_id())

    async def plain(self, ident):
        return await self.model(ident)

    async def take_loads(self):
        loads, self.loads = self.loads, []
        return loads


handle = serve.run(Models.bind(), name="models", route_prefix=None)
for ident in "aabacb":
    shown(ident, lambda: handle.options(multiplexed_model_id=ident).remote().result())  # noqa: B023
shown("loads", lambda: handle.take_loads.remote().result())
shown("bad", lambda: handle.options(multiplexed_model_id="bad").remote().result())
shown("none", lambda: handle.remote().result())
shown("number", lambda: handle.plain.remote(3).result())
shown("outside", lambda: serve.get_multiplexed_model_id())
shown("context outside", lambda: serve.get_replica_context())
for options in (
    {"max_num_models_per_replica": 0},
    {"max_num_models_per_replica": -2},
    {"max_num_models_per_replica": 1.5},
):
    shown(options, lambda: serve.multiplexed(**options))  # noqa: B023
shown("plain loader", lambda: serve.multiplexed(lambda model: model))
shown("no loader", lambda: serve.multiplexed("x"))
asyncio.run(asyncio.sleep(0))
serve.shutdown()

"""State of modules and classes in workers: globals, caches, class attributes; what driver and others see."""

import functools
import sys
import types

import hpc as ray

ray.init(num_cpus=1)
settings = {"level": 1}
module = types.ModuleType("made_up")
module.value = 10
sys.modules["made_up"] = module


@ray.remote
def reads():
    return settings["level"]


@ray.remote
def writes(level):
    settings["level"] = level
    return settings["level"]


print(ray.get(reads.remote()), ray.get(writes.remote(5)), settings)
settings["level"] = 2
print("the function went before:", ray.get(reads.remote()))


@ray.remote
def reads():
    return settings["level"]


print("made anew:", ray.get(reads.remote()))


class Registry:
    items = []
    count = 0

    @classmethod
    def add(cls, item):
        cls.items.append(item)
        cls.count += 1
        return len(cls.items), cls.count


@ray.remote(num_cpus=0)
class Uses:
    def add(self, item):
        return Registry.add(item)


one, two = Uses.remote(), Uses.remote()
print([ray.get(a.add.remote(i)) for i, a in enumerate((one, one, two))], Registry.items)


@functools.lru_cache
def slow(x):
    slow_calls.append(x)
    return x * x


slow_calls = []


@ray.remote(num_cpus=0)
class Cached:
    def get(self, x):
        return slow(x), len(slow_calls)


cached = Cached.remote()
try:
    print([ray.get(cached.get.remote(x)) for x in (2, 2, 3)], slow_calls)
except Exception as error:
    print(type(error).__name__)


@ray.remote
def imports():
    import json as j
    from collections import OrderedDict

    return j.dumps(OrderedDict(a=1)), __name__ == "__main__", sys.modules["__main__"].__name__


print(ray.get(imports.remote())[0])


@ray.remote
def main_attribute():
    import __main__

    return hasattr(__main__, "settings"), __name__


print("__main__ of a worker has our names:", ray.get(main_attribute.remote()))
big = list(range(1000))


@ray.remote
def captured(i):
    return len(big), i


print(ray.get([captured.remote(i) for i in range(3)]))
ref = ray.put([1, 2, 3])


@ray.remote
def closes_over():
    return ray.get(ref)


print("a reference in a closure:", ray.get(closes_over.remote()))
actor = Uses.remote()


@ray.remote
def calls_actor():
    return ray.get(actor.add.remote("x"))


print("a handle in a closure:", ray.get(calls_actor.remote()))


@ray.remote
class HoldsClosures:
    def __init__(self):
        self.handle = actor

    def add(self):
        return ray.get(self.handle.add.remote("y")), ray.get(ref)


print("both in a class:", ray.get(HoldsClosures.options(num_cpus=0).remote().add.remote()))

"""Letting go: weak references, __del__, gc, handles in cycles, references in containers, contexts."""

import contextlib
import gc
import os
import time
import weakref

import hpc as ray

ray.init(num_cpus=2)


@ray.remote(num_cpus=0)
class Ends:
    def __init__(self, path):
        self.path = path

    def ping(self):
        return "pong"

    def me(self):
        return ray.get_runtime_context().current_actor


def gone(name):
    end = time.monotonic() + 20
    while time.monotonic() < end:
        with contextlib.suppress(ValueError):
            ray.get_actor(name)
            time.sleep(0.05)
            continue
        return True
    return False


actor = Ends.options(name="first").remote("x")
print(ray.get(actor.ping.remote()))
weak = weakref.ref(actor)
print(weak() is actor)
del actor
gc.collect()
print("handle:", weak() is None, "actor:", gone("first"))
cycle = {"actor": Ends.options(name="second").remote("x")}
cycle["self"] = cycle
print(ray.get(cycle["actor"].ping.remote()))
del cycle
gc.collect()
print("in a cycle:", gone("second"))
ref = Ends.options(name="third").remote("x").ping.remote()
print("only a call:", ray.get(ref), gone("third"))
holder = Ends.options(name="fourth").remote("x")
method = holder.ping
del holder
gc.collect()
try:
    print("only a method:", ray.get(method.remote()))
except Exception as error:
    print("only a method:", type(error).__name__)
held = Ends.options(name="fifth").remote("x")
print("a handle to itself, given back:", ray.get(ray.get(held.me.remote()).ping.remote()))
box = ray.put(held)
del held
gc.collect()
print("a handle in the store:", ray.get(ray.get(box).ping.remote()))
ref = ray.put(1)
print("as a key:", {ref: 2}[ref], ref in {ref}, ref == ray.put(1), ref in [ref])


class Deleted:
    def __init__(self, path):
        self.path = path

    def __del__(self):
        with open(self.path, "a") as file:
            file.write("deleted\n")


@ray.remote
def makes(path):
    value = Deleted(path)
    return os.path.exists(value.path)


path = os.path.abspath("deleted.txt")
print("before:", ray.get(makes.remote(path)), "after:", open(path).read().split())

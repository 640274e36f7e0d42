"""A constructor that raises, one that crashes, and one whose argument failed: what its callers get."""

import os
import pickle

import hpc as ray

ray.init(num_cpus=3)
errors = ray.exceptions


@ray.remote
class Broken:
    def __init__(self):
        raise KeyError("no such setting")

    def ping(self):
        return 1


@ray.remote
class Crashes:
    def __init__(self):
        os._exit(3)

    def ping(self):
        return 1


@ray.remote
class Takes:
    def __init__(self, value):
        pass

    def ping(self):
        return 1


@ray.remote
def bad():
    raise ValueError("bad argument")


def show(what, ref):
    try:
        print(what, ray.get(ref, timeout=30))
    except errors.RayActorError as error:
        name = type(error).__name__
        print(what, name, "in the constructor:", error.actor_init_failed, "knows its id:", bool(error.actor_id))
        return error


broken = Broken.remote()
for _ in range(2):
    error = show("broken", broken.ping.remote())
    print("no such setting" in str(error), "Broken.__init__" in str(error), error.preempted)
show("ready", broken.__ray_ready__.remote())
show("pickled", broken.ping.remote())
print(type(pickle.loads(pickle.dumps(error))).__name__)
show("crashes", Crashes.remote().ping.remote())
error = show("argument", Takes.remote(bad.remote()).ping.remote())
print("bad argument" in str(error))
print(isinstance(error, ValueError), isinstance(error, errors.RayTaskError))

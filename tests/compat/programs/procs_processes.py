"""Which process runs what: workers are not the driver, are used again, and an actor has one for itself."""

import os

import hpc as ray

ray.init(num_cpus=1, log_to_driver=False)


@ray.remote
def pid():
    return os.getpid()


@ray.remote
class Box:
    def pid(self):
        return os.getpid()


first = ray.get(pid.remote())
print("not the driver:", first != os.getpid())
print("used again:", len({ray.get(pid.remote()) for _ in range(5)} | {first}) == 1)
one = Box.options(num_cpus=0).remote()
other = Box.options(num_cpus=0).remote()
pids = ray.get([one.pid.remote(), other.pid.remote()])
print("actors have their own:", len({first, *pids}) == 3, ray.get(one.pid.remote()) == pids[0])


@ray.remote(max_calls=1)
def once():
    return os.getpid()


print("max_calls=1:", len({ray.get(once.remote()) for _ in range(3)}))


@ray.remote
def imported():
    import sys

    new = "wave" not in sys.modules
    import wave  # noqa: F401

    return new


print("modules stay imported:", ray.get(imported.remote()), ray.get(imported.remote()))
counter = {"n": 0}


@ray.remote
def counts():
    counter["n"] += 1
    return counter["n"]


print("globals of a function stay in its worker:", [ray.get(counts.remote()) for _ in range(3)], counter)

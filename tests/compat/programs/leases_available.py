"""What is free goes down and up with tasks and actors."""

import os
import tempfile
import time

import hpc as ray

ray.init(num_cpus=2, resources={"slot": 2})


gate = os.path.join(tempfile.mkdtemp(), "gate")


@ray.remote(resources={"slot": 1})
def hold():
    while not os.path.exists(gate):
        time.sleep(0.02)
    return 1


def becomes(name, value):
    deadline = time.time() + 30
    while time.time() < deadline:
        if ray.available_resources().get(name, 0) == value:
            return True
        time.sleep(0.05)
    return False


print(becomes("slot", 2))
ref = hold.remote()
print(becomes("slot", 1), ray.cluster_resources()["slot"])
open(gate, "w").close()
print(ray.get(ref), becomes("slot", 2), becomes("CPU", 2))


@ray.remote(num_cpus=1, resources={"slot": 2})
class Keeper:
    def ping(self):
        return 1


keeper = Keeper.remote()
ray.get(keeper.ping.remote())
print(becomes("slot", 0), "slot" in ray.available_resources())
del keeper
print(becomes("slot", 2))

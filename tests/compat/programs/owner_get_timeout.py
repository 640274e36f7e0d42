"""Time-outs of get: the class, what it also is, and that the value can still be had."""

import os
import tempfile
import time

import hpc as ray

ray.init(num_cpus=2)


folder = tempfile.mkdtemp()


def let(name):
    open(os.path.join(folder, name), "w").close()


@ray.remote
def slow(name, value):
    while not os.path.exists(os.path.join(folder, name)):
        time.sleep(0.02)
    return value


ref = slow.remote("first", 1.5)
for timeout in (0, 0.05, 0.2):
    begin = time.monotonic()
    try:
        ray.get(ref, timeout=timeout)
    except ray.exceptions.GetTimeoutError as error:
        in_time = time.monotonic() - begin < 30
        print(isinstance(error, TimeoutError), isinstance(error, ray.exceptions.RayError), in_time)
try:
    ray.get([ray.put(1), ref], timeout=0.05)
except TimeoutError as error:
    print(type(error).__name__)
let("first")
print(ray.get(ref), ray.get([ref], timeout=30))


@ray.remote
def impatient(refs):
    try:
        return ray.get(refs[0], timeout=0.1)
    except ray.exceptions.GetTimeoutError:
        return "the task got a time-out"


print(ray.get(impatient.remote([slow.remote("second", 2.0)])))

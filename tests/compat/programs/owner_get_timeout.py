"""Time-outs of get: the class, what it also is, and that the value can still be had."""

import time

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
def slow(seconds):
    time.sleep(seconds)
    return seconds


ref = slow.remote(1.5)
for timeout in (0, 0.05, 0.2):
    begin = time.monotonic()
    try:
        ray.get(ref, timeout=timeout)
    except ray.exceptions.GetTimeoutError as error:
        in_time = time.monotonic() - begin < 1.2
        print(isinstance(error, TimeoutError), isinstance(error, ray.exceptions.RayError), in_time)
try:
    ray.get([ray.put(1), ref], timeout=0.05)
except TimeoutError as error:
    print(type(error).__name__)
print(ray.get(ref), ray.get([ref], timeout=5))


@ray.remote
def impatient(refs):
    try:
        return ray.get(refs[0], timeout=0.1)
    except ray.exceptions.GetTimeoutError:
        return "the task got a time-out"


print(ray.get(impatient.remote([slow.remote(2.0)])))

"""get and wait with a time limit; what is there at once."""

import time

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
def sleep(seconds, value=None):
    time.sleep(seconds)
    return value


slow, fast = sleep.remote(30), sleep.remote(0, "fast")
print(ray.get(fast, timeout=20))
try:
    ray.get(slow, timeout=0.2)
except ray.exceptions.GetTimeoutError as error:
    print("GetTimeoutError", isinstance(error, TimeoutError))
try:
    ray.get([fast, slow], timeout=0)
except ray.exceptions.GetTimeoutError as error:
    print("at once")
done, pending = ray.wait([slow, fast], timeout=5)
print(done == [fast], pending == [slow])
done, pending = ray.wait([slow], timeout=0.1)
print(done, pending == [slow])

"""get with a timeout."""

import hpc as ray

ray.init(num_cpus=2)
E = ray.exceptions
import time


@ray.remote
def slow():
    time.sleep(1)
    return "done"


ref = slow.remote()
try:
    ray.get(ref, timeout=0.05)
except TimeoutError as error:
    print(type(error).__name__, isinstance(error, E.GetTimeoutError), isinstance(error, E.RayTaskError))
print(ray.get(ref))

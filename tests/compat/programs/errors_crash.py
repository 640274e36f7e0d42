"""A worker that ends."""

import hpc as ray

ray.init(num_cpus=2)
E = ray.exceptions
import os


@ray.remote(max_retries=0)
def crash():
    os._exit(1)


@ray.remote
def use(x):
    return x


ref = crash.remote()
for one in (ref, use.remote(ref)):
    try:
        ray.get(one)
    except E.WorkerCrashedError as error:
        print(type(error).__name__, isinstance(error, E.RayTaskError))

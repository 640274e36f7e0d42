"""A program that raises ends with 1 and its error."""

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
def fail():
    raise ValueError("uncaught")


print("before")
try:
    ray.get(fail.remote())
finally:
    print("finally")

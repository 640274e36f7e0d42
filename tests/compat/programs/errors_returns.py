"""Each of several return values is the error."""

import hpc as ray

ray.init(num_cpus=2)
E = ray.exceptions


@ray.remote(num_returns=3)
def fails():
    raise ValueError("all")


@ray.remote(num_returns=2)
def too_many():
    return 1, 2, 3


for ref in fails.remote():
    try:
        ray.get(ref)
    except ValueError as error:
        print(str(error.cause))
try:
    ray.get(list(too_many.remote()))
except ValueError as error:
    print(type(error).__name__)

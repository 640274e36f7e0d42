"""Generators with a fixed number of returns."""

import hpc as ray

ray.init(num_cpus=2)


@ray.remote(num_returns=3)
def items(n):
    for i in range(n):
        yield i


print(ray.get(items.remote(3)))
for n in (2, 4):
    try:
        print(ray.get(items.remote(n)))
    except Exception as error:
        print(n, isinstance(error, ValueError), isinstance(error, ray.exceptions.RayTaskError))


@ray.remote(num_returns=2)
def pair(value):
    return value


for value in ((1, 2), [3, 4], "ab"):
    try:
        print(ray.get(pair.remote(value)))
    except Exception as error:
        print(type(value).__name__, isinstance(error, ValueError))
for value in ((1,), (1, 2, 3), 5):
    try:
        print(ray.get(pair.remote(value)))
    except Exception as error:
        print(value, isinstance(error, (ValueError, TypeError)))

"""Errors with long texts, from the task and through one that needs its value."""

import hpc as ray

ray.init(num_cpus=2)


class Loaded(Exception):
    pass


@ray.remote(max_retries=0)
def fails(count):
    raise Loaded("x" * count)


@ray.remote
def uses(value):
    return value


for count in (10, 100_000, 1_000_000):
    for ref in (fails.remote(count), uses.remote(fails.remote(count))):
        try:
            ray.get(ref)
        except Loaded as error:
            print(count, isinstance(error, ray.exceptions.RayTaskError), "xxxxxxxxxx" in str(error))

"""Several return values, none, and what goes wrong with their number."""

import hpc as ray

ray.init(num_cpus=2)


@ray.remote(num_returns=3)
def three():
    return 1, 2, 3


@ray.remote(num_returns=0)
def none():
    return None


@ray.remote(num_returns=2, max_retries=0)
def fails():
    raise ValueError("no")


@ray.remote(num_returns=2, max_retries=0)
def wrong():
    return 1, 2, 3


a, b, c = three.remote()
print(ray.get([c, b, a]), none.remote())
for ref in fails.remote():
    try:
        ray.get(ref)
    except ValueError as error:
        print("ValueError", "no" in str(error))
for ref in wrong.remote():
    try:
        print(ray.get(ref))
    except Exception as error:
        print(isinstance(error, ValueError), isinstance(error, ray.exceptions.RayTaskError))
print(ray.get(three.options(num_returns=1).remote()))

"""Several return values: waiting for some, errors for all, wrong numbers."""

import hpc as ray

ray.init(num_cpus=2)


@ray.remote(num_returns=3)
def three():
    return 1, 2, 3


@ray.remote(num_returns=2)
def fails():
    raise ValueError("both")


@ray.remote(num_returns=3)
def too_few():
    return 1, 2


@ray.remote(num_returns=0)
def none():
    return None


@ray.remote
class Actor:
    @ray.method(num_returns=2)
    def pair(self):
        return "left", "right"


print(ray.get(three.remote()))
a, b, c = three.remote()
print(ray.get([c, a]), [len(refs) for refs in ray.wait([a, b, c], num_returns=3)])
for ref in fails.remote():
    try:
        ray.get(ref)
    except ValueError as error:
        print("ValueError", "both" in str(error))
for ref in too_few.remote():
    try:
        ray.get(ref)
    except Exception as error:
        print(isinstance(error, ray.exceptions.RayTaskError), isinstance(error, ValueError))
print(none.remote())
print(ray.get(Actor.remote().pair.remote()))
left, right = Actor.remote().pair.options(num_returns=2).remote()
print(ray.get(right))
print(ray.get(three.options(num_returns=1).remote()))

"""Actors: state, handles passed around, several instances, attributes that are none."""

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
class Counter:
    """Counts."""

    def __init__(self, start=0):
        self.value = start

    def increment(self, by=1):
        self.value += by
        return self.value

    def get(self):
        return self.value

    def fail(self):
        raise RuntimeError("no")


@ray.remote
def bump(counter, times):
    return ray.get([counter.increment.remote() for _ in range(times)])


counter = Counter.remote(10)
print(ray.get([counter.increment.remote() for _ in range(3)]))
print(ray.get(bump.remote(counter, 2)), ray.get(counter.get.remote()))
many = [Counter.remote(start=i) for i in range(3)]
print(ray.get([c.increment.remote(by=5) for c in many]))
for what in (lambda: Counter(), lambda: counter.increment(), lambda: counter.nothing, lambda: counter.value):
    try:
        what()
    except (TypeError, AttributeError) as error:
        print(type(error).__name__, str(error).split(".")[0])
try:
    ray.get(counter.fail.remote())
except RuntimeError as error:
    print(isinstance(error, ray.exceptions.RayTaskError), ray.get(counter.get.remote()))
print(type(counter).__name__, repr(counter).split("(")[0], Counter.__doc__ if False else "")


@ray.remote
class Holder:
    def __init__(self, other):
        self.other = other

    def through(self):
        return ray.get(self.other.increment.remote())


print(ray.get(Holder.remote(counter).through.remote()))
print(ray.get(Holder.options(num_cpus=0).remote(counter).through.remote()))
print(
    ray.get(counter.__ray_ready__.remote()), ray.get(counter.__ray_call__.remote(lambda self, n: self.value + n, 100))
)

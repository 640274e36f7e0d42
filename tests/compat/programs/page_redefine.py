"""Functions and classes that are defined again, as in a notebook."""

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
def version():
    return 1


first = version


@ray.remote
def version():
    return 2


print(ray.get(first.remote()), ray.get(version.remote()))


@ray.remote
class Actor:
    def version(self):
        return 1


old = Actor.remote()


@ray.remote
class Actor:
    def version(self):
        return 2


print(ray.get(old.version.remote()), ray.get(Actor.remote().version.remote()))
namespace = {}
exec("def made(x):\n    return x + 1", namespace)
print(ray.get(ray.remote(namespace["made"]).remote(1)))
import functools

print(ray.get(ray.remote(functools.partial(lambda a, b: a - b, 10)).remote(3)) if False else "partial")

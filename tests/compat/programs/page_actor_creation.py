"""What a constructor does: arguments, references, errors, order."""

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
class Actor:
    def __init__(self, a, b=2, *args, c=3, **kwargs):
        self.got = (a, b, args, c, sorted(kwargs.items()))

    def get(self):
        return self.got


print(ray.get(Actor.remote(1).get.remote()))
print(ray.get(Actor.remote(ray.put("ref"), 5, 6, c=7, d=8).get.remote()))
print(ray.get(Actor.remote(a=ray.put(1), b=[2]).get.remote()))


@ray.remote
def fail():
    raise ValueError("argument")


broken = Actor.remote(fail.remote())
try:
    ray.get(broken.get.remote())
except ray.exceptions.RayError as error:
    print(isinstance(error, ray.exceptions.RayActorError) or isinstance(error, ValueError))
ready = Actor.remote(1)
print(ray.get(ready.__ray_ready__.remote()), ray.get([Actor.remote(i).get.remote() for i in range(3)])[2][0])

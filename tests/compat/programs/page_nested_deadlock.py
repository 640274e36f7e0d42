"""A tree of tasks that is deeper than there are CPUs."""

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
def deep(n):
    return 0 if n == 0 else 1 + ray.get(deep.remote(n - 1))


@ray.remote
def wide(n):
    return 1 if n == 0 else sum(ray.get([wide.remote(n - 1) for _ in range(2)]))


print(ray.get(deep.remote(8)), ray.get(wide.remote(3)))


@ray.remote
class Recursive:
    def make(self, n):
        if n == 0:
            return 0
        return 1 + ray.get(Recursive.options(num_cpus=0).remote().make.remote(n - 1))


print(ray.get(Recursive.options(num_cpus=0).remote().make.remote(3)))

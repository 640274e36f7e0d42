"""Generators with a dynamic number of returns."""

import hpc as ray

ray.init(num_cpus=2)


@ray.remote(num_returns="dynamic")
def split(n):
    for i in range(n):
        yield i * i


ref = split.remote(4)
print(type(ref).__name__)
generator = ray.get(ref)
print(type(generator).__name__, [ray.get(r) for r in generator])


@ray.remote
def count(generator):
    return sum(ray.get(r) for r in generator)


print(ray.get(count.remote(split.remote(3))))
print([ray.get(r) for r in ray.get(split.options(num_returns="dynamic").remote(2))])
print(len(list(ray.get(split.remote(0)))))

"""as_completed, map_unordered, list_named_actors, wait with generators."""

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
def square(x):
    return x * x


refs = [square.remote(i) for i in range(6)]
print(sorted(ray.util.as_completed(refs)))
print(sorted(ray.util.map_unordered(square, range(5))))
print(ray.util.list_named_actors())


@ray.remote
def stream():
    yield 1
    yield 2


one, two = stream.remote(), square.remote(3)
ready, rest = ray.wait([one, two], num_returns=2, timeout=60)
print(len(ready), len(rest))
print(ray.get(next(one)))

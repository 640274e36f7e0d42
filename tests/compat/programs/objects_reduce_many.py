"""Many small values in one task, by reference and by value, and from one task."""

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
def small(i):
    return bytes(80_000)


@ray.remote
def size(*values, **named):
    return sum(len(v) for v in values) + sum(len(v) for v in named.values())


@ray.remote(num_returns=300)
def scatter():
    return [bytes(80_000) for _ in range(300)]


parts = [small.remote(i) for i in range(300)]
print(ray.get(size.remote(*parts)))
print(ray.get(size.remote(*[bytes(80_000)] * 300)))
print(ray.get(size.remote(**{f"n{i}": p for i, p in enumerate(parts)})))
print(sum(len(v) for v in ray.get(scatter.remote())))
print(sum(len(v) for v in ray.get(ray.get(ray.put(parts)))))

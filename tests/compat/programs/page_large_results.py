"""Large results and arguments: arrays, bytes, many of them, returned and passed on."""

import hpc as ray

ray.init(num_cpus=2)

import numpy as np


@ray.remote
def make(n, value):
    return np.full(n, value)


@ray.remote
def total(array):
    return float(array.sum())


@ray.remote(num_returns=2)
def halves(array):
    return array[: len(array) // 2], array[len(array) // 2 :]


big = make.remote(1_000_000, 2.0)
print(ray.get(total.remote(big)))
a, b = halves.remote(big)
print(ray.get(a).shape, ray.get(b).shape, ray.get(total.remote(a)))
print(len(ray.get(ray.put(b"x" * 5_000_000))), len(ray.get(ray.remote(lambda: "y" * 1_000_000).remote())))
print([ray.get(total.remote(make.remote(100_000, i))) for i in range(5)])
rows = ray.get(ray.remote(lambda: [np.ones((100, 100)) for _ in range(10)]).remote())
print(len(rows), rows[0].sum())
structured = np.zeros(3, dtype=[("a", "i4"), ("b", "f8")])
print(ray.get(ray.put(structured)).dtype, ray.get(ray.put(np.array(["x", "yy"]))).tolist())
print(ray.get(ray.put(np.asfortranarray(np.arange(6).reshape(2, 3)))).flags.f_contiguous)

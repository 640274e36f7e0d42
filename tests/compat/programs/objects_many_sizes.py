"""Values of many sizes by put, by argument and as results."""

import numpy as np

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
def size(value):
    return len(value)


@ray.remote
def make(count):
    return bytes(count)


for count in (0, 1, 1000, 99_000, 101_000, 1 << 20, 8 << 20):
    ref = ray.put(bytes(count))
    print(
        count,
        len(ray.get(ref)),
        ray.get(size.remote(ref)),
        ray.get(size.remote(bytes(count))),
        len(ray.get(make.remote(count))),
    )
array = np.arange(300_000)
again = ray.get(ray.put(array))
print(again.sum(), again.flags.writeable, again.dtype, ray.get(size.remote(array)))

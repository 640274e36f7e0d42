"""Objects: arrays are read-only views, copies are private, references can be shared and compared."""

import numpy as np

import hpc as ray

ray.init(num_cpus=2, object_store_memory=200_000_000)
array = np.arange(1_000_000)
ref = ray.put(array)
got = ray.get(ref)
print(got.sum(), got.flags.writeable, got.dtype, got.shape)
try:
    got[0] = 1
except ValueError as error:
    print("ValueError", error)
mine = got.copy()
mine[0] = 5
print(mine[0], ray.get(ref)[0])
small = ray.get(ray.put(np.zeros(3)))
print(small.flags.writeable)
print(ref == ref, ref in {ref}, ref != ray.put(1), hash(ref) == hash(ref))
for value in (None, True, 3, 2.5, 1j, "text", b"bytes", (1, 2), [1], {1: 2}, {3}, frozenset({4}), range(3), ...):
    back = ray.get(ray.put(value))
    print(type(back).__name__, back == value)
try:
    ray.put(ref)
except TypeError as error:
    print("TypeError", str(error).split(".")[0])
try:
    ray.get(3)
except ValueError as error:
    print("ValueError", str(error).split(",")[0])
try:
    ray.get([1])
except (ValueError, TypeError) as error:
    print(type(error).__name__)
print(ray.get([]), ray.get([ray.put(1), ray.put(2)]))


@ray.remote
def total(*arrays, scale):
    return sum(a.sum() for a in arrays) * scale


print(ray.get(total.remote(ref, ray.put(np.ones(4)), scale=ray.put(2))))

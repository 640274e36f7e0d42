"""Tasks that wait for tasks."""

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
def depth(n):
    return 0 if n == 0 else 1 + ray.get(depth.remote(n - 1))


print(ray.get(depth.remote(10)))


@ray.remote
def read(refs):
    return sum(ray.get(refs))


refs = [ray.put(i) for i in range(10)]
print(ray.get([read.remote(refs) for _ in range(4)]))


@ray.remote
def fan(width):
    return sum(ray.get([depth.remote(1) for _ in range(width)]))


print(ray.get([fan.remote(3) for _ in range(4)]))

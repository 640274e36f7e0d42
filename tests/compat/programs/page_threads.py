"""Many threads of the driver and of a task."""

import hpc as ray

ray.init(num_cpus=2)

from concurrent.futures import ThreadPoolExecutor


@ray.remote
def give(i):
    return i


@ray.remote
class Counter:
    def __init__(self):
        self.value = 0

    def add(self):
        self.value += 1
        return self.value


with ThreadPoolExecutor(8) as pool:
    print(sum(pool.map(lambda i: ray.get(give.remote(i)), range(100))))
counter = Counter.remote()
with ThreadPoolExecutor(8) as pool:
    print(sorted(pool.map(lambda i: ray.get(counter.add.remote()), range(50))) == list(range(1, 51)))


@ray.remote(num_cpus=0)
def threaded():
    with ThreadPoolExecutor(4) as pool:
        return sorted(pool.map(lambda i: ray.get(give.remote(i)), range(10)))


print(ray.get(threaded.remote()))

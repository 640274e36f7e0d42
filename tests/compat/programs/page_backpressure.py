"""A generator that waits for its reader."""

import hpc as ray

ray.init(num_cpus=2)


@ray.remote(_generator_backpressure_num_objects=2)
def produce(counter, n):
    for i in range(n):
        counter.add.remote()
        yield i


@ray.remote
class Counter:
    def __init__(self):
        self.count = 0

    def add(self):
        self.count += 1

    def get(self):
        return self.count


import time

counter = Counter.options(num_cpus=0).remote()
stream = produce.remote(counter, 20)
print(ray.get(next(stream)))
time.sleep(1)
print(ray.get(counter.get.remote()) < 10)
print([ray.get(r) for r in stream] == list(range(1, 20)), ray.get(counter.get.remote()))

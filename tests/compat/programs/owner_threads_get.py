"""Threads of a driver that submit, wait and get at the same time."""

import threading

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
def double(n):
    return 2 * n


@ray.remote
class Sum:
    def __init__(self):
        self.total = 0

    def add(self, n):
        self.total += n
        return self.total


total = Sum.remote()
results = {}


def work(name):
    refs = [double.remote(n) for n in range(30)]
    values = []
    while refs:
        ready, refs = ray.wait(refs, num_returns=min(4, len(refs)))
        values += ray.get(ready)
    results[name] = sum(values)
    ray.get([total.add.remote(1) for _ in range(20)])


threads = [threading.Thread(target=work, args=(name,)) for name in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(results == {name: sum(2 * n for n in range(30)) for name in range(6)})
print(ray.get(total.add.remote(0)))

"""Calls of one caller run in their order, also behind one that waits for its argument."""

import hpc as ray

ray.init(num_cpus=2)

import time


@ray.remote
class Log:
    def __init__(self):
        self.seen = []

    def add(self, what):
        self.seen.append(what)
        return what

    def get(self):
        return self.seen


@ray.remote
def slow(value):
    time.sleep(0.3)
    return value


log = Log.remote()
refs = [log.add.remote(i) for i in range(5)]
refs += [log.add.remote(slow.remote("late")), log.add.remote("after")]
ray.get(refs)
print(ray.get(log.get.remote()))
log = Log.remote()
for i in range(50):
    log.add.remote(i)
print(ray.get(log.get.remote()) == list(range(50)))
chain = log.add.remote("x")
for _ in range(3):
    chain = log.add.remote(chain)
print(ray.get(chain), ray.get(log.get.remote())[-4:])

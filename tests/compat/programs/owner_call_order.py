"""Calls of one caller run in the order of their submission, also where an argument comes late."""

import time

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
def late(value):
    time.sleep(0.5)
    return value


@ray.remote
class Log:
    def __init__(self):
        self.lines = []

    def add(self, line):
        self.lines.append(line)
        return len(self.lines)

    def all(self):
        return self.lines


log = Log.remote()
refs = [log.add.remote(n) for n in range(50)]
print(ray.get(refs) == list(range(1, 51)), ray.get(log.all.remote()) == list(range(50)))
log = Log.remote()
done = [log.add.remote("one"), log.add.remote(late.remote("two")), log.add.remote(late.remote("three"))]
print(ray.get(done), ray.get(log.all.remote()))


@ray.remote
def adds(log, name):
    return ray.get([log.add.remote((name, n)) for n in range(10)])


log = Log.remote()
ray.get([adds.remote(log, "a"), adds.remote(log, "b")])
lines = ray.get(log.all.remote())
for name in "ab":
    print(name, [n for who, n in lines if who == name])

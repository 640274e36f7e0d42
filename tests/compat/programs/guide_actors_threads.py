"""Threaded actors and concurrency groups: how many run at once."""

import threading

import hpc as ray

ray.init(num_cpus=2)


@ray.remote(max_concurrency=3)
class Threads:
    def __init__(self):
        self.barrier = threading.Barrier(3)

    def meet(self):
        return self.barrier.wait(timeout=30) in (0, 1, 2)


@ray.remote(concurrency_groups={"io": 2, "compute": 1})
class Groups:
    def __init__(self):
        self.barrier = threading.Barrier(2)
        self.gate = threading.Event()

    @ray.method(concurrency_group="io")
    def io(self):
        self.barrier.wait(timeout=30)
        return "io"

    @ray.method(concurrency_group="compute")
    def compute(self):
        return self.gate.wait(timeout=30)

    def default(self):
        self.gate.set()
        return "default"


threads = Threads.remote()
print(ray.get([threads.meet.remote() for _ in range(3)]))
groups = Groups.remote()
print(ray.get([groups.io.remote() for _ in range(2)]))
blocked = groups.compute.remote()
print(ray.get(groups.default.remote()), ray.get(blocked))
print(ray.get([groups.default.options(concurrency_group="io").remote() for _ in range(2)]))
try:
    groups.default.options(concurrency_group="none").remote()
    print("accepted")
except ValueError as error:
    print("ValueError")

"""Errors of methods leave the actor alive; its state stays."""

import hpc as ray

ray.init(num_cpus=2)
E = ray.exceptions


@ray.remote
class Counter:
    def __init__(self):
        self.count = 0

    def add(self, fail):
        self.count += 1
        if fail:
            raise ValueError(f"at {self.count}")
        return self.count

    def bad(self):
        raise OSError(28, "full")


counter = Counter.remote()
refs = [counter.add.remote(n % 2 == 1) for n in range(4)]
for ref in refs:
    try:
        print(ray.get(ref))
    except ValueError as error:
        print("error", str(error.cause))
try:
    ray.get(counter.bad.remote())
except OSError as error:
    print("os", error.cause.errno)
print(ray.get(counter.add.remote(False)))

"""The order of calls, limits on those that wait, and calls that wait for arguments."""

import threading
import time

import hpc as ray

ray.init(num_cpus=3)


@ray.remote
class Log:
    def __init__(self):
        self.seen = []

    def add(self, x):
        self.seen.append(x)
        return x

    def all(self):
        return self.seen


@ray.remote
def late(x):
    time.sleep(0.2)
    return x


log = Log.remote()
for i in range(20):
    log.add.remote(i)
print(ray.get(log.all.remote()))
ordered = Log.remote()
refs = [ordered.add.remote(late.remote("first")), ordered.add.remote("second")]
ray.get(refs)
print(ray.get(ordered.all.remote()))
free = Log.options(allow_out_of_order_execution=True).remote()
refs = [free.add.remote(late.remote("first")), free.add.remote("second")]
ray.get(refs)
print(ray.get(free.all.remote()))
print(ray.get(log.add.remote(ordered.add.remote("chained"))))


@ray.remote(max_concurrency=2)
class Waits:
    def __init__(self):
        self.go = threading.Event()

    def wait(self):
        return self.go.wait(30)

    def open(self):
        self.go.set()


gate = Waits.remote()
blocked = gate.wait.remote()
ray.get(gate.open.remote())
print(ray.get(blocked))

limited = Waits.options(max_pending_calls=2).remote()
refs = [limited.wait.remote(), limited.wait.remote()]
try:
    limited.wait.remote()
except ray.exceptions.PendingCallsLimitExceeded:
    print("limit")
ray.kill(limited)
try:
    ray.get(refs)
except ray.exceptions.RayActorError as error:
    print(type(error).__name__)

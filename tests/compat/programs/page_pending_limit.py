"""max_pending_calls."""

import hpc as ray

ray.init(num_cpus=2)

import threading


@ray.remote(max_pending_calls=2, max_concurrency=2)
class Door:
    def __init__(self):
        self.gate = threading.Event()

    def wait(self):
        return self.gate.wait(60)

    def open(self):
        self.gate.set()


door = Door.remote()
first = door.wait.remote()
second = None
try:
    second = door.open.remote()
    door.wait.remote()
    print("a third was taken")
except ray.exceptions.PendingCallsLimitExceeded as error:
    print("PendingCallsLimitExceeded", isinstance(error, ray.exceptions.RayError))
print(ray.get(first))

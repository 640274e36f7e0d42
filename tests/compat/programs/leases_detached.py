"""A detached actor outlives the driver that made it, and its handles."""

import subprocess
import sys
import time

import hpc as ray

ray.init(num_cpus=2, namespace="kept")
CODE = """
import sys
import hpc as ray

ray.init(address=sys.argv[1], namespace="kept")


@ray.remote
class Counter:
    def __init__(self, start):
        self.value = start

    def add(self):
        self.value += 1
        return self.value


detached = Counter.options(name="detached", lifetime="detached").remote(10)
plain = Counter.options(name="plain").remote(20)
print(ray.get([detached.add.remote(), plain.add.remote()]))
"""
code = CODE
address = ray.get_runtime_context().gcs_address
done = subprocess.run([sys.executable, "-c", code, address], capture_output=True, text=True)
print(done.stdout.strip())
time.sleep(2)
counter = ray.get_actor("detached")
print(ray.get(counter.add.remote()))
try:
    ray.get_actor("plain")
except ValueError:
    print("plain has ended")
del counter
time.sleep(1)
counter = ray.get_actor("detached")
print(ray.get(counter.add.remote()))
ray.kill(counter)
time.sleep(1)
try:
    ray.get_actor("detached")
except ValueError:
    print("killed")
try:
    ray.get(counter.add.remote())
except ray.exceptions.RayActorError as error:
    print(type(error).__name__)

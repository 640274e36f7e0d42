"""What a worker has put, made and submitted when it has made its last call."""

import os
import time

import hpc as ray

ray.init(num_cpus=2)


@ray.remote(max_calls=1)
def once():
    return [ray.put("x" * 300_000)], os.getpid()


refs, pid = ray.get(once.remote())
time.sleep(1)
print("value", len(ray.get(refs[0])), "process", os.path.exists(f"/proc/{pid}"))
print("another process", ray.get(once.remote())[1] != pid)


@ray.remote
class Box:
    def keep(self, refs):
        self.refs = refs

    def kept(self):
        return self.refs


box = Box.remote()
ray.get(box.keep.remote(refs))
del refs
time.sleep(1)
print("held by an actor", len(ray.get(ray.get(box.kept.remote())[0])))


@ray.remote(max_calls=1)
def makes_actor():
    inner = Box.remote()
    ray.get(inner.keep.remote(5))
    return [inner]


inner = ray.get(makes_actor.remote())[0]
time.sleep(1)
print("actor of an ended worker", ray.get(inner.kept.remote()))


@ray.remote
def late(path):
    time.sleep(0.5)
    with open(path, "w"):
        pass


@ray.remote(max_calls=1)
def submits(path):
    late.remote(path)


path = f"/tmp/compat-leases-{os.getpid()}"
ray.get(submits.remote(path))
until = time.monotonic() + 30
while not os.path.exists(path) and time.monotonic() < until:
    time.sleep(0.1)
print("what it had submitted ran", os.path.exists(path))
if os.path.exists(path):
    os.unlink(path)

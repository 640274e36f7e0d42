"""What a worker is called in ps and top while it runs something."""

import os
import time

import hpc as ray

ray.init(num_cpus=2, log_to_driver=False)


def names(pid):
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        command = file.read().replace(b"\0", b" ").decode().strip()
    with open(f"/proc/{pid}/comm") as file:
        return file.read().rstrip("\n"), command


@ray.remote
def work():
    return names(os.getpid()), os.getpid()


@ray.remote
class Box:
    def method(self):
        return names(os.getpid()), os.getpid()


def becomes(pid, name):
    end = time.monotonic() + 10
    while names(pid)[1] != name:
        if time.monotonic() > end:
            return names(pid)
        time.sleep(0.05)
    return name


here = ray.__name__
found, pid = ray.get(work.remote())
print("a task", *found)
print("idle", becomes(pid, f"{here}::IDLE"))
print("with a name", *ray.get(work.options(name="my task").remote())[0])
box = Box.remote()
found, pid = ray.get(box.method.remote())
print("a method", *found)
print("an actor at rest", becomes(pid, f"{here}::Box"))
print("a named actor", *ray.get(Box.options(name="joe").remote().method.remote())[0])

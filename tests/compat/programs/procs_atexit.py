"""Handlers of atexit in workers: when a task exits, when an actor leaves, goes out of scope, or is killed."""

import atexit
import os
import sys
import tempfile
import time

import hpc as ray

ray.init(num_cpus=2, log_to_driver=False)
folder = tempfile.mkdtemp()


def mark(name):
    open(os.path.join(folder, name), "w").close()


def marked(name, wait=10.0):
    end = time.monotonic() + wait
    while not os.path.exists(os.path.join(folder, name)):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


@ray.remote(max_retries=0)
def leave(name, code):
    atexit.register(mark, name)
    sys.exit(code)


@ray.remote(max_calls=1)
def once(name):
    atexit.register(mark, name)


@ray.remote
class Box:
    def __init__(self, name):
        atexit.register(mark, name)

    def ready(self):
        return True

    def leave(self):
        ray.actor.exit_actor()


for code in (0, 1):
    try:
        ray.get(leave.remote(f"exit {code}", code))
    except ray.exceptions.WorkerCrashedError:
        print("exit", code, marked(f"exit {code}"))
ray.get(once.remote("max_calls"))
print("max_calls", marked("max_calls"))

box = Box.remote("exit_actor")
try:
    ray.get(box.leave.remote())
except ray.exceptions.ActorDiedError:
    print("exit_actor", marked("exit_actor"))

box = Box.remote("out of scope")
ray.get(box.ready.remote())
del box
print("out of scope", marked("out of scope"))

box = Box.remote("killed")
ray.get(box.ready.remote())
ray.kill(box)
print("killed", marked("killed", 2.0))

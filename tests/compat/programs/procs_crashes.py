"""Workers that die: killed, aborted, by a bad address; in tasks and in actors."""

import ctypes
import os
import signal
import tempfile
import time

import hpc as ray

ray.init(num_cpus=2, log_to_driver=False)
lines = []


def say(*words):
    """Printed at the end, when nobody else prints about workers that died."""
    lines.append(" ".join(str(word) for word in words))


folder = tempfile.mkdtemp()


def die(how):
    if how == "abort":
        os.abort()
    elif how == "bad address":
        ctypes.string_at(0)
    else:
        os.kill(os.getpid(), getattr(signal, how))


@ray.remote
def task(how):
    with open(os.path.join(folder, how), "a") as file:
        file.write("x")
    die(how)


@ray.remote
class Box:
    def die(self, how):
        die(how)

    def ready(self):
        return "ready"


def later(box):
    """What a call gives once the actor is back."""
    while True:
        try:
            return ray.get(box.ready.remote())
        except ray.exceptions.ActorUnavailableError:
            time.sleep(0.1)


for how in ("abort", "bad address", "SIGKILL", "SIGTERM"):
    try:
        ray.get(task.options(max_retries=1).remote(how))
    except ray.exceptions.RayError as error:
        say("task", how, type(error).__name__, len(open(os.path.join(folder, how)).read()), "runs")
    box = Box.options(max_restarts=1, max_task_retries=0).remote()
    ray.get(box.ready.remote())
    try:
        ray.get(box.die.remote(how))
    except ray.exceptions.RayActorError as error:
        say("actor", how, type(error).__name__, "and then", later(box))
    box = Box.remote()
    try:
        ray.get(box.die.remote(how))
    except ray.exceptions.RayActorError as error:
        say("actor without restarts", how, type(error).__name__)


@ray.remote
def once_then_fine(path):
    if not os.path.exists(path):
        open(path, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return "the second attempt"


say(ray.get(once_then_fine.remote(os.path.join(folder, "first"))))

ray.shutdown()
print("\n".join(lines))

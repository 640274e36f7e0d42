"""sys.exit in methods of actors: with which code an actor ends for good, and with which it is restarted."""

import os
import sys
import tempfile
import time

import hpc as ray

ray.init(num_cpus=2, log_to_driver=False)
lines = []


def say(*words):
    """Printed at the end, when nobody else prints about workers that died."""
    lines.append(" ".join(str(word) for word in words))


folder = tempfile.mkdtemp()


@ray.remote
class Box:
    def leave(self, how, code):
        with open(os.path.join(folder, f"{how}{code}"), "a") as file:
            file.write("x")
        if how == "os":
            os._exit(code)
        sys.exit(code)

    def ready(self):
        return "ready"


def outcome(ref):
    try:
        return ray.get(ref, timeout=60)
    except ray.exceptions.RayActorError as error:
        return type(error).__name__


def later(box):
    """What a call gives once the actor is back, or is known to be dead."""
    while True:
        try:
            return ray.get(box.ready.remote())
        except ray.exceptions.ActorUnavailableError:
            time.sleep(0.1)
        except ray.exceptions.ActorDiedError as error:
            return type(error).__name__


for how, code in (("sys", 0), ("sys", None), ("sys", 3), ("sys", "text"), ("os", 0), ("os", 3)):
    box = Box.remote()
    ray.get(box.ready.remote())
    say("no restarts:", how, code, outcome(box.leave.remote(how, code)), outcome(box.ready.remote()))

for how, code in (("sys", 0), ("sys", 3), ("os", 0)):
    box = Box.options(max_restarts=1).remote()
    ray.get(box.ready.remote())
    say("one restart:", how, code, outcome(box.leave.remote(how, code)))
    say("afterwards:", later(box))

for code in (0, 4):
    name = os.path.join(folder, f"sys{code}")
    if os.path.exists(name):
        os.unlink(name)
    box = Box.options(max_restarts=1, max_task_retries=1).remote()
    result = outcome(box.leave.remote("sys", code))
    say("with retries:", code, result, "after", len(open(name).read()), "runs")

ray.shutdown()
print("\n".join(lines))

"""sys.exit, exit_actor and crashes in constructors."""

import os
import sys

import hpc as ray

ray.init(num_cpus=2, log_to_driver=False)
lines = []


def say(*words):
    """Printed at the end, when nobody else prints about workers that died."""
    lines.append(" ".join(str(word) for word in words))


@ray.remote
class Box:
    def __init__(self, how):
        if how == "exit 0":
            sys.exit(0)
        if how == "exit 3":
            sys.exit(3)
        if how == "crash":
            os._exit(1)

    def ready(self):
        return "ready"


for how in ("nothing", "exit 0", "exit 3", "crash"):
    box = Box.remote(how)
    for _ in range(2):
        try:
            say(how, "->", ray.get(box.ready.remote(), timeout=60))
        except ray.exceptions.ActorDiedError as error:
            say(how, "->", type(error).__name__, isinstance(error, ray.exceptions.RayActorError))

ray.shutdown()
print("\n".join(lines))

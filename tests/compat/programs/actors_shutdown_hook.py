"""__ray_shutdown__ is called when an actor ends in peace."""

import os
import tempfile
import time

import hpc as ray

ray.init(num_cpus=2)
folder = tempfile.mkdtemp()


@ray.remote
class Closes:
    def __init__(self, path):
        self.path = path

    def ready(self):
        return True

    def leave(self):
        ray.actor.exit_actor()

    def __ray_shutdown__(self):
        with open(self.path, "w") as f:
            f.write("closed")


@ray.remote
class ClosesLoop(Closes.__ray_actor_class__):
    async def ready(self):
        return True


def closed(path, turns):
    for _ in range(turns):
        if os.path.exists(path):
            return True
        time.sleep(0.05)
    return False


for cls in (Closes, ClosesLoop):
    for way in ("last handle", "terminate", "exit_actor", "kill"):
        path = os.path.join(folder, f"{cls is Closes} {way}")
        actor = cls.remote(path)
        ray.get(actor.ready.remote())
        if way == "terminate":
            actor.__ray_terminate__.remote()
        elif way == "kill":
            ray.kill(actor)
        elif way == "exit_actor":
            actor.leave.remote()
        else:
            del actor
        print(way, closed(path, 10 if way == "kill" else 100))

"""Restarts and retried calls of actors that crash."""

import hpc as ray

ray.init(num_cpus=2)

import os
import tempfile

path = os.path.join(tempfile.mkdtemp(), "count")


@ray.remote(max_restarts=2, max_task_retries=2)
class Fragile:
    def __init__(self):
        with open(path, "a") as file:
            file.write("x")
        self.calls = 0

    def starts(self):
        return os.path.getsize(path)

    def crash_once(self):
        if os.path.getsize(path) == 1:
            os._exit(1)
        return "survived"

    def count(self):
        self.calls += 1
        return self.calls


actor = Fragile.remote()
print(ray.get(actor.count.remote()), ray.get(actor.count.remote()))
print(ray.get(actor.crash_once.remote()))
print(ray.get(actor.starts.remote()), ray.get(actor.count.remote()))
print(ray.get(actor.__ray_call__.remote(lambda self: ray.get_runtime_context().was_current_actor_reconstructed)))


@ray.remote
class Plain:
    def crash(self):
        os._exit(1)

    def fine(self):
        return 1


plain = Plain.remote()
for call in (plain.crash, plain.fine):
    try:
        ray.get(call.remote())
    except ray.exceptions.RayActorError as error:
        print(type(error).__name__, isinstance(error, ray.exceptions.ActorDiedError))

"""Cancelling calls of actors."""

import hpc as ray

ray.init(num_cpus=2)

import asyncio


@ray.remote
class Async:
    async def forever(self):
        await asyncio.Event().wait()

    async def fine(self):
        return "fine"

    async def cleans(self):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cleaned = True
            raise

    async def was_cleaned(self):
        return self.cleaned


actor = Async.remote()
for method in (actor.forever, actor.cleans):
    ref = method.remote()
    ray.get(actor.fine.remote())
    ray.cancel(ref)
    try:
        ray.get(ref, timeout=60)
    except ray.exceptions.RayError as error:
        print(isinstance(error, ray.exceptions.TaskCancelledError))
print(ray.get(actor.fine.remote()), ray.get(actor.was_cleaned.remote()))
try:
    ray.cancel(actor.forever.remote(), force=True)
except ValueError as error:
    print("ValueError")

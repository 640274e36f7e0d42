"""Cancelling what runs and what waits."""

import hpc as ray

ray.init(num_cpus=2)

import time


@ray.remote
def sleep(seconds):
    for _ in range(int(seconds * 100)):
        time.sleep(0.01)
    return "done"


@ray.remote
def quick():
    return "quick"


def outcome(ref):
    try:
        return ray.get(ref, timeout=60)
    except ray.exceptions.RayError as error:
        return [
            isinstance(error, kind) for kind in (ray.exceptions.TaskCancelledError, ray.exceptions.WorkerCrashedError)
        ]


running = sleep.remote(60)
time.sleep(1)
ray.cancel(running)
print(outcome(running))
busy = [sleep.remote(60) for _ in range(2)]
waiting = quick.remote()
ray.cancel(waiting)
print(outcome(waiting))
for ref in busy:
    ray.cancel(ref, force=True)
print([any(outcome(ref)) for ref in busy])
done = quick.remote()
print(ray.get(done))
ray.cancel(done)
print(outcome(done))
dependent = quick.options(name="x").remote()
for bad in (1, "ref"):
    try:
        ray.cancel(bad)
    except TypeError as error:
        print("TypeError")
print(outcome(dependent))

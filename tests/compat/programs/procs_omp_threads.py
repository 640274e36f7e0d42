"""OMP_NUM_THREADS in tasks and actors: by the CPUs they have, whatever the task before has done to it."""

import os

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
def change(value):
    before = os.environ.get("OMP_NUM_THREADS")
    if value is None:
        os.environ.pop("OMP_NUM_THREADS", None)
    else:
        os.environ["OMP_NUM_THREADS"] = value
    return before


@ray.remote(num_cpus=2)
class Actor:
    def change(self, value):
        before = os.environ.get("OMP_NUM_THREADS")
        os.environ["OMP_NUM_THREADS"] = value
        return before


for cpus in (1, 2, 0, 0.5, 1):
    task = change.options(num_cpus=cpus)
    print(f"tasks with {cpus} CPUs:", [ray.get(task.remote(value)) for value in ("7", None, "9", "1")])
said = change.options(runtime_env={"env_vars": {"OMP_NUM_THREADS": "5"}})
print("a task whose environment says it:", ray.get(said.remote("5")))
actor = Actor.remote()
print("an actor with 2 CPUs:", [ray.get(actor.change.remote(value)) for value in ("7", "8", "9")])

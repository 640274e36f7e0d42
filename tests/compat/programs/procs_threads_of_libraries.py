"""OMP_NUM_THREADS in tasks and actors: their CPUs, unless somebody has said otherwise."""

import os

os.environ.pop("OMP_NUM_THREADS", None)
import hpc as ray

ray.init(num_cpus=4, log_to_driver=False)


@ray.remote
def threads():
    return os.environ.get("OMP_NUM_THREADS")


@ray.remote
class Box:
    def threads(self):
        return os.environ.get("OMP_NUM_THREADS")

    async def later(self):
        return os.environ.get("OMP_NUM_THREADS")


for cpus in (0, 0.25, 0.5, 1, 2, 3, 4):
    print("task", cpus, ray.get(threads.options(num_cpus=cpus).remote()))
print("task as it is", ray.get(threads.remote()))
for cpus in (0, 0.5, 1, 2):
    box = Box.options(num_cpus=cpus).remote()
    print("actor", cpus, ray.get(box.threads.remote()))
    del box
print("actor as it is", ray.get(Box.remote().threads.remote()))
print("async method", ray.get(Box.options(num_cpus=2).remote().later.remote()))
env = {"env_vars": {"OMP_NUM_THREADS": "3"}}
print("given", ray.get(threads.options(num_cpus=2, runtime_env=env).remote()))
print("given to an actor", ray.get(Box.options(num_cpus=1, runtime_env=env).remote().threads.remote()))
print("in the driver", os.environ.get("OMP_NUM_THREADS"))

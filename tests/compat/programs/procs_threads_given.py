"""OMP_NUM_THREADS that the driver has set is what tasks see."""

import os

os.environ["OMP_NUM_THREADS"] = "7"
import hpc as ray

ray.init(num_cpus=2, log_to_driver=False)


@ray.remote
def threads():
    return os.environ.get("OMP_NUM_THREADS")


print(ray.get(threads.remote()), ray.get(threads.options(num_cpus=2).remote()))

"""RAY_TASK_MAX_RETRIES."""

import os

os.environ["RAY_TASK_MAX_RETRIES"] = "1"
import hpc as ray  # noqa: E402

ray.init(num_cpus=1)


@ray.remote
def crash(path):
    with open(path, "a") as file:
        file.write("x")
    os._exit(1)


for times, function in (("two", crash), ("one", crash.options(max_retries=0))):
    path = f"/tmp/compat-retries-{os.getpid()}-{times}"
    try:
        ray.get(function.remote(path))
    except ray.exceptions.WorkerCrashedError:
        with open(path) as file:
            print(times, len(file.read()))
    os.unlink(path)

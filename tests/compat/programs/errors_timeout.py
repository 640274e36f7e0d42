"""get with a timeout."""

import hpc as ray

ray.init(num_cpus=2)
E = ray.exceptions
import os
import tempfile
import time

gate = os.path.join(tempfile.mkdtemp(), "gate")


@ray.remote
def slow():
    while not os.path.exists(gate):
        time.sleep(0.02)
    return "done"


ref = slow.remote()
try:
    ray.get(ref, timeout=0.05)
except TimeoutError as error:
    print(type(error).__name__, isinstance(error, E.GetTimeoutError), isinstance(error, E.RayTaskError))
open(gate, "w").close()
print(ray.get(ref))

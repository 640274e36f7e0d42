"""Exceptions that cannot be pickled."""

import hpc as ray

ray.init(num_cpus=2)
E = ray.exceptions
import threading


class Locked(Exception):
    def __init__(self):
        super().__init__("locked")
        self.lock = threading.Lock()


@ray.remote
def fails():
    raise Locked()


try:
    ray.get(fails.remote())
except E.RayError as error:
    print(isinstance(error, E.RayTaskError), "locked" in str(error))

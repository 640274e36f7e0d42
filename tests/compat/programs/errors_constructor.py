"""A constructor that fails."""

import hpc as ray

ray.init(num_cpus=2)
E = ray.exceptions


@ray.remote
class Bad:
    def __init__(self):
        raise ValueError("in the constructor")

    def work(self):
        return 1


bad = Bad.remote()
for _ in range(2):
    try:
        ray.get(bad.work.remote())
    except E.RayActorError as error:
        print(type(error).__name__, "in the constructor" in str(error), isinstance(error, E.RayTaskError))

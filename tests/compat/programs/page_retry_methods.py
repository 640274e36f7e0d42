"""Exceptions of methods that are retried."""

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
class Flaky:
    def __init__(self):
        self.tries = 0

    @ray.method(max_task_retries=3, retry_exceptions=[ValueError])
    def third(self):
        self.tries += 1
        if self.tries < 3:
            raise ValueError(self.tries)
        return self.tries

    def never(self):
        self.tries += 1
        raise KeyError(self.tries)

    def count(self):
        return self.tries


flaky = Flaky.remote()
print(ray.get(flaky.third.remote()))
try:
    ray.get(flaky.never.options(max_task_retries=2, retry_exceptions=False).remote())
except KeyError as error:
    print("KeyError", ray.get(flaky.count.remote()))

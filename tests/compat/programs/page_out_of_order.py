"""Calls of an actor that allows them out of order."""

import hpc as ray

ray.init(num_cpus=2)

import time


@ray.remote
def slow():
    time.sleep(1)
    return "slow"


@ray.remote(allow_out_of_order_execution=True, max_concurrency=2)
class Any:
    def call(self, what):
        return what


actor = Any.remote()
late, early = actor.call.remote(slow.remote()), actor.call.remote("early")
ready, rest = ray.wait([late, early])
print(ready == [early], ray.get(late))

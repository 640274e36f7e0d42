"""Both lists of wait keep the order of the list that was given; a failed one is ready."""

import os
import tempfile
import time

import hpc as ray

ray.init(num_cpus=3)


gate = os.path.join(tempfile.mkdtemp(), "gate")


@ray.remote
def after(waits, value):
    while waits and not os.path.exists(gate):
        time.sleep(0.02)
    return value


@ray.remote
def fail():
    raise ValueError("it is ready all the same")


slow = after.remote(True, "slow")
first, second = after.remote(False, "a"), fail.remote()
ray.wait([first, second], num_returns=2)
ready, rest = ray.wait([slow, first, second], num_returns=2)
print([ready.index(ref) for ref in (first, second)], rest == [slow])
ready, rest = ray.wait([second, slow, first], num_returns=1)
print(ready == [second], rest == [slow, first])
ready, rest = ray.wait([slow, first], num_returns=2, timeout=0.1)
print(len(ready), len(rest), ready == [first])
ready, rest = ray.wait([slow], timeout=0)
print(len(ready), len(rest))
begin = time.monotonic()
ready, rest = ray.wait([slow], timeout=0.3)
print(len(ready), 0.25 < time.monotonic() - begin < 30)
open(gate, "w").close()
print(ray.get(ray.wait([slow])[0][0]))

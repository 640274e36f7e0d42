"""Both lists of wait keep the order of the list that was given; a failed one is ready."""

import time

import hpc as ray

ray.init(num_cpus=3)


@ray.remote
def after(seconds, value):
    time.sleep(seconds)
    return value


@ray.remote
def fail():
    raise ValueError("it is ready all the same")


slow = after.remote(2.0, "slow")
first, second = after.remote(0.0, "a"), fail.remote()
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
print(len(ready), 0.25 < time.monotonic() - begin < 1.5)
print(ray.get(ray.wait([slow])[0][0]))

"""The timeout of get: for all values together, and what is there needs no time."""

import time

import numpy as np

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
def large(value):
    return np.full(1 << 20, value)


@ray.remote
def after(seconds, value):
    time.sleep(seconds)
    return value


def outcome(refs, timeout):
    began = time.monotonic()
    try:
        got = ray.get(refs, timeout=timeout)
    except ray.exceptions.GetTimeoutError as error:
        assert isinstance(error, TimeoutError)
        got = "GetTimeoutError"
    took = time.monotonic() - began
    return got, took


made = [large.remote(n) for n in range(3)]
ray.wait(made, num_returns=3)
got, took = outcome(made, 0)
print("large values that are there, without time:", [int(v[0]) for v in got], took < 1)
got, took = outcome(ray.put(np.ones(1 << 20)), 0)
print("one that was put:", got.shape)
ray.get([after.remote(0, n) for n in range(2)])
slow = [after.remote(0.6, n) for n in range(8)]
got, took = outcome(slow, 1.0)
print("values that come one after the other, in too little time:", got, 0.9 < took < 1.5)
got, took = outcome([made[0], slow[-1]], 0)
print("one that is there and one that is not:", got, took < 0.5)
print("in enough time:", outcome(slow, 30)[0])
print("all are there now:", outcome(slow, 0)[0])
try:
    ray.get(after.remote(5, 0), timeout=0.1)
except TimeoutError as error:
    print("it is a TimeoutError of Python's:", isinstance(error, ray.exceptions.GetTimeoutError))

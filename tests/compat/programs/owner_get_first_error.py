"""get of a list raises as soon as one has failed; of several it is the first in the list."""

import os
import time

import hpc as ray

ray.init(num_cpus=4, log_to_driver=False)


@ray.remote
def bad(text):
    raise ValueError(text)


@ray.remote
def slow():
    time.sleep(12)


@ray.remote
class Mortal:
    def ping(self):
        return 1

    def die(self):
        os._exit(1)


def show(what, refs):
    begin = time.monotonic()
    try:
        ray.get(refs)
        print(what, "no error")
    except Exception as error:
        print(what, type(error).__name__, "early:", time.monotonic() - begin < 9)


mortal = Mortal.remote()
ray.get(mortal.ping.remote())
show("behind a slow one:", [slow.remote(), bad.remote("x")])
show("before a slow one:", [bad.remote("x"), slow.remote()])
show("a dead actor:", [slow.remote(), mortal.die.remote()])
both = [bad.remote("first"), bad.remote("second")]
ray.wait(both, num_returns=2)
for refs in (both, both[::-1], [ray.put(1), *both]):
    try:
        ray.get(refs)
    except ValueError as error:
        print("first" in str(error), "second" in str(error))

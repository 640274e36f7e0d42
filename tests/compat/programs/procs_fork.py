"""os.fork in tasks, actors and drivers, where the child ends by os._exit."""

import os

import numpy

import hpc as ray

ray.init(num_cpus=2, log_to_driver=False)


def fork_and_tell(code):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        os.write(write, b"from the child")
        os._exit(code)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read()
    return said, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@ray.remote
def forks(code):
    return fork_and_tell(code)


@ray.remote
class Box:
    def __init__(self):
        self.count = 0

    def forks(self, code):
        self.count += 1
        return fork_and_tell(code), self.count


@ray.remote
def after():
    return "the worker works"


print(ray.get([forks.remote(code) for code in (0, 3)]))
box = Box.remote()
print(ray.get([box.forks.remote(code) for code in (1, 2)]))
print(ray.get(after.remote()), fork_and_tell(4), ray.get(after.remote()))


@ray.remote
def big(n):
    value = numpy.arange(n)
    child = os.fork()
    if child == 0:
        os._exit(0 if int(value.sum()) == n * (n - 1) // 2 else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), value.sum()


print(ray.get(big.remote(1_000_000)))


@ray.remote
def sees(array):
    child = os.fork()
    if child == 0:
        os._exit(0 if int(array[-1]) == len(array) - 1 else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


print("a child sees shared arrays:", ray.get(sees.remote(ray.put(numpy.arange(1_000_000)))) == 0)

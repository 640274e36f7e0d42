"""The constructor of a pool: numbers, initializer, options of the actors."""

import os
import time

import hpc as ray
from hpc.util.multiprocessing import Pool

ray.init(num_cpus=2, resources={"special": 2})


def show(what, call):
    try:
        print(what, call())
    except Exception as error:
        print(what, type(error).__name__)


def free(name, value):
    """What is free, once it is this: the view of it comes a moment later."""
    deadline = time.monotonic() + 20
    while ray.available_resources().get(name, 0) != value and time.monotonic() < deadline:
        time.sleep(0.05)
    return ray.available_resources().get(name, 0)


def pid(_=None):
    time.sleep(0.3)
    return os.getpid()


def remember(*values):
    os.environ["REMEMBERED"] = repr(values)


def recall(_=None):
    return os.environ.get("REMEMBERED")


def fails():
    raise ValueError("initializer")


def count(pool):
    try:
        return len(set(pool.map(pid, range(6), chunksize=1)))
    finally:
        pool.terminate()


show("processes by default", lambda: count(Pool()))
show("one", lambda: count(Pool(1)))
show("processes=2", lambda: count(Pool(processes=2)))
show("none", lambda: Pool(0))
show("negative", lambda: Pool(-1))
show("more than there are CPUs", lambda: count(Pool(3)))
show("a text", lambda: Pool("2"))
pool = Pool(2, remember, (1, "a"))
print("initializer:", set(pool.map(recall, range(4))))
pool.terminate()
pool = Pool(processes=1, initializer=remember, initargs=[5], maxtasksperchild=1)
print("in each new process:", [pool.apply(recall) for _ in range(3)])
pool.terminate()
pool = Pool(1, initializer=remember)
print("without arguments:", pool.apply(recall))
pool.terminate()
show("an initializer that fails", lambda: Pool(1, fails).apply(recall))
pool = Pool(2, ray_remote_args={"num_cpus": 1})
print("CPUs of the processes:", free("CPU", 0))
print("and they work:", pool.map(abs, [-1, -2]))
pool.close()
pool.join()
pool = Pool(1, ray_remote_args={"resources": {"special": 1}, "runtime_env": {"env_vars": {"GIVEN": "yes"}}})
print("environment:", pool.apply(lambda: os.environ.get("GIVEN")))
print("resources:", free("special", 1.0))
pool.terminate()
pool = Pool(1)
print("no CPU by default:", free("CPU", 2.0))
print("the parent's arguments:", pool.apply(lambda: ray.get_runtime_context().get_actor_id() is not None))
pool.terminate()
show("a bad option", lambda: Pool(1, ray_remote_args={"nonsense": 1}))

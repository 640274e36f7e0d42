"""A pool that is given to a task, an actor, a closure."""

import pickle

import hpc as ray
from hpc.util.multiprocessing import Pool

ray.init(num_cpus=2)


def double(x):
    return 2 * x


def show(what, call):
    try:
        print(what, call())
    except Exception as error:
        print(what, type(error).__name__)


pool = Pool(2)


@ray.remote(num_cpus=0)
def uses(pool):
    return pool.map(double, range(4)), pool.apply(double, (5,)), list(pool.imap(double, range(3)))


@ray.remote(num_cpus=0)
def uses_closure():
    return pool.map(double, range(4))


@ray.remote(num_cpus=0)
class Holds:
    def __init__(self, pool):
        self.pool = pool

    def map(self, values):
        return self.pool.map(double, values)


show("an argument:", lambda: ray.get(uses.remote(pool)))
show("a closure:", lambda: ray.get(uses_closure.remote()))
show("an actor:", lambda: ray.get(Holds.remote(pool).map.remote([1, 2])))
show("still here:", lambda: pool.map(double, [1]))


@ray.remote(num_cpus=0)
def closes(pool):
    pool.close()
    pool.join()
    return "closed"


def made_and_given():
    return ray.get(uses.remote(Pool(1)))


show("dropped here:", made_and_given)
held = Holds.remote(Pool(1))
show("dropped here, held by an actor:", lambda: [ray.get(held.map.remote([n])) for n in (1, 2)])
show("in an object:", lambda: ray.get(ray.put({"pool": pool}))["pool"].map(double, [1, 2]))
show("closed elsewhere:", lambda: ray.get(closes.remote(pool)))
try:
    pool.map_async(double, [1]).get(timeout=60)
except ray.exceptions.RayActorError:
    print("its processes are gone: RayActorError")
pool.terminate()
show("a closed one that travels:", lambda: ray.get(uses.remote(pool)))
show("an async result:", lambda: pickle.dumps(Pool(1).apply_async(double, (1,))) and "pickled")

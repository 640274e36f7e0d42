"""The end of a pool: close, join, terminate, with, and calls after it."""

import os
import time

import hpc as ray
from hpc.exceptions import RayActorError, RayError
from hpc.util.multiprocessing import Pool, TimeoutError

ray.init(num_cpus=2)


def double(x):
    return 2 * x


def slow(x):
    time.sleep(x)
    return x


def pid(_=None):
    return os.getpid()


def show(what, call):
    try:
        print(what, call())
    except Exception as error:
        print(what, type(error).__name__)


def after(what, pool):
    show(f"{what}: map", lambda: pool.map(double, [1]))
    show(f"{what}: starmap", lambda: pool.starmap(double, [(1,)]))
    show(f"{what}: map_async", lambda: pool.map_async(double, [1]))
    show(f"{what}: starmap_async", lambda: pool.starmap_async(double, [(1,)]))
    show(f"{what}: apply", lambda: pool.apply(double, (1,)))
    show(f"{what}: apply_async", lambda: pool.apply_async(double, (1,)))
    show(f"{what}: imap", lambda: pool.imap(double, [1]))
    show(f"{what}: imap_unordered", lambda: pool.imap_unordered(double, [1]))
    show(f"{what}: with", lambda: pool.__enter__())


pool = Pool(2)
show("join of a running pool", pool.join)
result = pool.map_async(slow, [0.5, 0.6, 0.1])
pool.close()
after("closed", pool)
print("join:", pool.join(), result.ready() or result.get(10) is not None, result.get())
show("join again", pool.join)
show("terminate after it", pool.terminate)

pool = Pool(2)
result = pool.apply_async(slow, (300,))
time.sleep(0.2)
began = time.time()
print("terminate:", pool.terminate())
after("terminated", pool)
show("join", pool.join)
print("at once:", time.time() - began < 60)
try:
    result.get(timeout=60)
except RayActorError as error:
    print("the result of a call that ran:", isinstance(error, RayError), result.ready(), result.successful())

with Pool(2) as pool:
    print("with:", pool.map(double, [1, 2]))
after("left", pool)
pool = Pool(1)
try:
    with pool:
        raise KeyError("in the block")
except KeyError:
    show("after an error in the block: map", lambda: pool.map(double, [1]))

pool = Pool(1, maxtasksperchild=2)
pids = [pool.apply(pid) for _ in range(6)]
print("two tasks for each process:", len(set(pids)), [pids[i] == pids[i + 1] for i in range(5)])
pids = pool.map(pid, range(8), chunksize=2)
print("chunks count:", len(set(pids)))
pool.terminate()


def dies(x):
    if x == 1:
        os._exit(1)
    return x


pool = Pool(2)
try:
    pool.map(dies, range(2), chunksize=1)
except RayActorError:
    print("a process that ends: RayActorError")
pool.terminate()
pool = Pool(1)
kept = pool.apply_async(double, (4,))
kept.wait()
pool.terminate()
print("a result that was there:", kept.get(), kept.successful())
pool = Pool(1)
del pool
print("dropped")
pool = Pool(1)
ray.shutdown()
try:
    pool.map_async(double, [1]).get(timeout=60)
except Exception as error:
    print("after shutdown: an error", not isinstance(error, TimeoutError))

"""joblib on the processes of the session: numbers of jobs, options, errors, nesting, generators, shared arrays."""

import os

import hpc as ray

ray.init(num_cpus=2, resources={"special": 4})

# needs: joblib
import joblib
import numpy as np

from hpc.util.joblib import register_ray

register_ray()
delayed, Parallel = joblib.delayed, joblib.Parallel


def square(x, more=0):
    return x * x + more


def where():
    return os.getpid()


def special(_):
    return ray.get_runtime_context().get_assigned_resources().get("special")


def mean(array, by):
    return float(array.mean()) * by


def picky(x):
    if x == 3:
        raise ValueError("three")
    return x


def inner(n):
    return sum(Parallel(n_jobs=2)(delayed(square)(i) for i in range(n)))


with joblib.parallel_backend("ray"):
    print("by default:", joblib.effective_n_jobs(-1), Parallel()(delayed(square)(i) for i in range(10)))
    print("keywords:", Parallel()(delayed(square)(i, more=1) for i in range(4)))
    print("in other processes:", os.getpid() in Parallel()(delayed(where)() for _ in range(4)))
    print("nothing:", Parallel()([]))
    print("one:", Parallel(n_jobs=1)(delayed(square)(i) for i in range(3)))
with joblib.parallel_backend("ray", n_jobs=2):
    print("two jobs:", joblib.effective_n_jobs(), Parallel()(delayed(square)(i) for i in range(5)))
with joblib.parallel_config(backend="ray", n_jobs=2):
    print("by parallel_config:", Parallel(batch_size=3)(delayed(square)(i) for i in range(8)))
    print("verbose and pre_dispatch:", Parallel(pre_dispatch=2)(delayed(square)(i) for i in range(5)))
    shared = np.arange(400_000.0)
    print("a large array:", Parallel()(delayed(mean)(shared, by) for by in range(3)))
    print("nested:", Parallel()(delayed(inner)(n) for n in (3, 4)))
    try:
        Parallel()(delayed(picky)(i) for i in range(6))
    except ValueError as error:
        print("an error: ValueError", error)
    print("after it:", Parallel()(delayed(square)(i) for i in range(3)))
    print("a lambda:", Parallel()(delayed(lambda x: x + 1)(i) for i in range(3)))
print("backend=:", Parallel(n_jobs=2, backend="ray")(delayed(square)(i) for i in range(4)))
with joblib.parallel_backend("ray", n_jobs=2, ray_remote_args={"resources": {"special": 1}}):
    print("options of the actors:", Parallel()(delayed(special)(i) for i in range(3)))
with joblib.parallel_backend("ray", n_jobs=2):
    parallel = Parallel(ray_remote_args={"resources": {"special": 2}})
    print("given to Parallel:", parallel(delayed(special)(i) for i in range(3)))
    del parallel
with joblib.parallel_backend("ray", n_jobs=2):
    try:
        print("a generator:", list(Parallel(return_as="generator")(delayed(square)(i) for i in range(4))))
    except ValueError as error:
        print("a generator: ValueError")
with joblib.parallel_backend("ray", n_jobs=2):
    with Parallel() as parallel:
        print("one pool, several calls:", [parallel(delayed(square)(i) for i in range(n)) for n in (2, 3)])

"""Errors of tasks pickled, copied, put, and returned as values."""

import copy

import hpc as ray

ray.init(num_cpus=2)
E = ray.exceptions


@ray.remote
def fails():
    raise ValueError("bad")


@ray.remote
def returns_it():
    try:
        ray.get(fails.remote())
    except ValueError as error:
        return error


@ray.remote
def returns_a_plain_one():
    return ValueError("just a value")


@ray.remote
def takes(error):
    return type(error).__name__, isinstance(error, ValueError)


try:
    ray.get(fails.remote())
except ValueError as error:
    kept = error


def show(what, get):
    try:
        value = get()
        print(what, type(value).__name__, isinstance(value, ValueError), isinstance(value, E.RayTaskError))
    except ValueError as error:
        print(what, "raised", type(error).__name__, isinstance(error, E.RayTaskError), "ValueError: bad" in str(error))


show("pickled:", lambda: ray.cloudpickle.loads(ray.cloudpickle.dumps(kept)))
show("copied:", lambda: copy.copy(kept))
show("put:", lambda: ray.get(ray.put(kept)))
show("put in a list:", lambda: ray.get(ray.put([kept]))[0])
show("the cause, put:", lambda: ray.get(ray.put(kept.cause)))
show("returned:", lambda: ray.get(returns_it.remote()))
show("a plain one returned:", lambda: ray.get(returns_a_plain_one.remote()))
print(ray.get(takes.remote(kept.cause)))

"""An error that passes through tasks."""

import hpc as ray

ray.init(num_cpus=2)
E = ray.exceptions


@ray.remote
def inner():
    raise KeyError("deep")


@ray.remote
def middle():
    return ray.get(inner.remote())


@ray.remote
def outer():
    return ray.get(middle.remote())


try:
    ray.get(outer.remote())
except KeyError as error:
    text = str(error)
    print(type(error).__name__, [name in text for name in ("inner", "middle", "outer")], "KeyError: 'deep'" in text)

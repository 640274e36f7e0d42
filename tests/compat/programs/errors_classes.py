"""The classes of a failed task's error."""

import hpc as ray

ray.init(num_cpus=2)
E = ray.exceptions


@ray.remote
def fails(kind):
    raise {
        "key": KeyError("k"),
        "value": ValueError("v"),
        "own": type("Own", (Exception,), {})("o"),
        "stop": StopIteration(3),
    }[kind]


for kind in ("key", "value", "own", "stop"):
    try:
        ray.get(fails.remote(kind))
    except Exception as error:
        print(
            kind,
            type(error).__name__,
            isinstance(error, E.RayTaskError),
            isinstance(error, E.RayError),
            type(error.cause).__name__,
        )

"""Fields of the standard exceptions."""

import hpc as ray

ray.init(num_cpus=2)
E = ray.exceptions


@ray.remote
def fails(kind):
    if kind == "os":
        open("/no/such/file")
    if kind == "unicode":
        b"\xff".decode()
    if kind == "json":
        import json

        json.loads("{x")
    raise MemoryError("full")


for kind in ("os", "unicode", "json", "memory"):
    try:
        ray.get(fails.remote(kind))
    except FileNotFoundError as error:
        print(kind, error.cause.errno, error.cause.filename)
    except UnicodeDecodeError as error:
        print(kind, error.cause.start, error.cause.encoding)
    except MemoryError as error:
        print(kind, error.cause.args)
    except ValueError as error:
        print(kind, type(error.cause).__name__, error.cause.pos)

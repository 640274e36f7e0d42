"""Generators with a fixed number of return values."""

import hpc as ray

ray.init(num_cpus=2)


def show(what, refs):
    out = []
    for ref in refs:
        try:
            out.append(ray.get(ref, timeout=20))
        except ray.exceptions.TaskCancelledError:
            out.append("cancelled")
        except Exception as error:
            out.append([kind.__name__ for kind in (ValueError, RuntimeError, TypeError) if isinstance(error, kind)])
    print(what, out)


@ray.remote(max_retries=0)
def items(n, fail=False):
    for i in range(n):
        yield i
    if fail:
        raise RuntimeError("stopped")


three = items.options(num_returns=3)
show("three of three:", three.remote(3))
show("three of four:", three.remote(4))
show("one and an error:", three.remote(1, True))
show("two of three:", three.remote(2))
show("none of three:", three.remote(0))
show("one:", [items.options(num_returns=1).remote(3)])
print("zero:", items.options(num_returns=0).remote(3))


@ray.remote
def returns_one(n):
    return (i * i for i in range(n))


show("a generator that is returned:", returns_one.options(num_returns=2).remote(2))
show("its first value:", [returns_one.remote(3)])

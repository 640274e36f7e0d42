"""num_returns="dynamic"."""

import warnings

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


warnings.simplefilter("ignore")


@ray.remote(max_retries=0)
def items(n, fail=False):
    for i in range(n):
        yield i
    if fail:
        raise RuntimeError("stopped")


dynamic = items.options(num_returns="dynamic")
outer = dynamic.remote(3)
print(type(outer).__name__)
value = ray.get(outer)
print(type(value).__name__, len(value))
show("items:", list(value))
show("an error is the last one:", list(ray.get(dynamic.remote(2, True))))


@ray.remote
def total(refs):
    return sum(ray.get(ref) for ref in refs)


print(ray.get(total.remote(dynamic.remote(4))))

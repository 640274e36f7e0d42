"""What generators refuse."""

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


def attempt(what, function):
    try:
        function()
        print(what, "accepted")
    except Exception as error:
        print(what, type(error).__name__)


@ray.remote
def plain():
    return [1, 2]


@ray.remote
def same(x):
    return x


attempt("streaming of a list:", lambda: plain.options(num_returns="streaming").remote())
attempt("passed:", lambda: same.remote(items.remote(1)))
attempt("passed in a list:", lambda: same.remote([items.remote(1)]))
attempt("put:", lambda: ray.put(items.remote(1)))
attempt("negative:", lambda: items.options(num_returns=-1).remote(1))
attempt("no window:", lambda: items.options(_generator_backpressure_num_objects=0).remote(1))
attempt("a window that is no number:", lambda: items.options(_generator_backpressure_num_objects=1.5).remote(1))
generator = items.remote(1)
attempt("waited for twice:", lambda: ray.wait([generator, generator]))

"""Several return values that are no generator's."""

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
def gives(value):
    return value


two = gives.options(num_returns=2)
show("a list:", two.remote([1, 2]))
show("a tuple:", two.remote((1, 2)))
show("a string:", two.remote("ab"))
show("a dict:", two.remote({"a": 1, "b": 2}))
show("too many:", two.remote([1, 2, 3]))
show("too few:", two.remote([1]))
show("no container:", two.remote(5))
show("None:", two.remote(None))

"""wait() with generators."""

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


one, two = items.remote(3), items.remote(2)
ready, rest = ray.wait([one, two], num_returns=2)
print(ready == [one, two], rest)
out, unread = [], [items.remote(3), items.remote(2)]
while unread:
    ready, unread = ray.wait(unread)
    for generator in ready:
        try:
            out.append(ray.get(next(generator)))
            unread.append(generator)
        except StopIteration:
            pass
print(sorted(out))
value = ray.put(1)
ready, _ = ray.wait([one, value], num_returns=2, timeout=10)
print([type(thing).__name__ for thing in ready])

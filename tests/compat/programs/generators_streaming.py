"""Streaming: next, for, the end, errors, completed, is_finished, next_ready."""

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


generator = items.remote(3)
print(type(generator).__name__, ray.get(generator) is generator, iter(generator) is generator)
print(ray.get(next(generator)), generator.is_finished())
print([ray.get(ref) for ref in generator], generator.is_finished(), generator.next_ready())
try:
    next(generator)
except StopIteration:
    print("it has ended")
print(ray.get(generator.completed()))
failing = items.remote(2, True)
show("with an error:", list(failing))
print("completed:", ray.get(failing.completed()), failing.is_finished())
show("nothing:", list(items.remote(0)))
generator = items.remote(2)
ray.get(generator.completed())
print(generator.next_ready())
for _ in range(2):
    next(generator)
    print(generator.next_ready(), generator.is_finished())
for way in ("send", "throw", "close"):
    try:
        getattr(generator, way)(*([] if way == "close" else [ValueError]))
    except NotImplementedError:
        print(way, "is not there")

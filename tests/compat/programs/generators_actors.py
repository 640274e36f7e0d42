"""Generator methods of actors, of each kind."""

import asyncio

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


@ray.remote
class Plain:
    def items(self, n, fail=False):
        for i in range(n):  # noqa: UP028
            yield i
        if fail:
            raise ValueError("stopped")

    @ray.method(num_returns=2)
    def two(self):
        yield "a"
        yield "b"


@ray.remote
class Coroutines:
    async def items(self, n, fail=False):
        for i in range(n):
            await asyncio.sleep(0)
            yield i
        if fail:
            raise ValueError("stopped")

    def plain(self, n):
        for i in range(n):  # noqa: UP028
            yield i


for cls, options in ((Plain, {}), (Plain, {"max_concurrency": 2}), (Coroutines, {})):
    actor = cls.options(**options).remote()
    show("items:", list(actor.items.remote(3)))
    show("an error:", list(actor.items.remote(2, True)))
    show("held back:", list(actor.items.options(_generator_backpressure_num_objects=1).remote(3)))
plain = Plain.remote()
show("two:", plain.two.remote())
show("three, and an error:", plain.items.options(num_returns=3).remote(1, True))
show("one:", [plain.items.options(num_returns=1).remote(3)])
show("a plain generator among coroutines:", list(Coroutines.remote().plain.remote(3)))

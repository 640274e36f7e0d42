"""Values that cannot be made again: gotten, as a result or item, as an argument of a task, method, constructor."""

import asyncio

import hpc as ray
from hpc.exceptions import RayActorError, RayError, RaySystemError, RayTaskError

ray.init(num_cpus=2)


def broken(value):
    raise ValueError(f"does not load {value}")


class BadReduce:
    def __reduce__(self):
        return broken, (7,)


class BadState:
    def __init__(self):
        self.value = 1

    def __setstate__(self, state):
        raise KeyError("no such state")


@ray.remote
def make(kind):
    return kind()


@ray.remote
def take(value, *more):
    return "taken"


@ray.remote
def get_it(refs):
    return ray.get(refs[0])


@ray.remote
def get_it_and_tell(refs):
    try:
        ray.get(refs[0])
    except RaySystemError as error:
        return "does not load 7" in str(error)


@ray.remote(num_returns=2)
def two():
    return 1, BadReduce()


@ray.remote
def items():
    yield 1
    yield BadReduce()
    yield 3


@ray.remote
class Actor:
    def __init__(self, *values):
        self.values = values

    def make(self):
        return BadReduce()

    def take(self, value):
        return "taken"


KINDS = {
    "any": RayError, "system": RaySystemError, "task": RayTaskError, "actor": RayActorError, "value": ValueError,
    "key": KeyError,
}  # fmt: skip


def attempt(what, do):
    try:
        print(what, "gave", do())
    except Exception as error:
        said = [text for text in ("does not load 7", "no such state") if text in str(error)]
        print(what, "raised", [name for name, kind in KINDS.items() if isinstance(error, kind)], said)


async def awaited():
    return await ray.put(BadReduce())


attempt("put", lambda: ray.get(ray.put(BadReduce())))
attempt("put with a state", lambda: ray.get(ray.put(BadState())))
attempt("large put", lambda: ray.get(ray.put([BadReduce(), b"x" * 300_000])))
attempt("result", lambda: ray.get(make.remote(BadReduce)))
attempt("one of a list", lambda: ray.get([ray.put(1), ray.put(BadReduce())]))
attempt("the good one of two", lambda: ray.get(two.remote()[0]))
attempt("the bad one of two", lambda: ray.get(two.remote()[1]))
attempt("waited for", lambda: len(ray.wait([make.remote(BadReduce)], timeout=20)[0]))
refs = list(items.remote())
attempt("item before", lambda: ray.get(refs[0]))
attempt("item", lambda: ray.get(refs[1]))
attempt("item after", lambda: ray.get(refs[2]))
attempt("await", lambda: asyncio.run(awaited()))
attempt("future", lambda: ray.put(BadReduce()).future().result(timeout=20))
attempt("argument", lambda: ray.get(take.remote(BadReduce())))
attempt("argument with a state", lambda: ray.get(take.remote(value=BadState())))
attempt("large argument", lambda: ray.get(take.remote([BadReduce(), b"x" * 300_000])))
attempt("reference as argument", lambda: ray.get(take.remote(ray.put(BadReduce()))))
attempt("two of them", lambda: ray.get(take.remote(ray.put(1), ray.put(BadReduce()))))
attempt("result as argument", lambda: ray.get(take.remote(make.remote(BadReduce))))
attempt("retried for ValueError", lambda: ray.get(take.options(retry_exceptions=[ValueError]).remote(BadReduce())))
attempt("in a task", lambda: ray.get(get_it.remote([ray.put(BadReduce())])))
attempt("caught in a task", lambda: ray.get(get_it_and_tell.remote([ray.put(BadReduce())])))
actor = Actor.remote()
attempt("result of a method", lambda: ray.get(actor.make.remote()))
attempt("argument of a method", lambda: ray.get(actor.take.remote(BadReduce())))
attempt("the actor after it", lambda: ray.get(actor.take.remote(1)))
attempt("argument of a constructor", lambda: ray.get(Actor.remote(BadReduce()).take.remote(1)))

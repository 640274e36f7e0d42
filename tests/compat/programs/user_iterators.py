"""Generators as iterators: zip, islice, enumerate, list, yield from, wrapped ones, arguments, left early, passed on."""

import itertools

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
def count(n, fail_at=None):
    for i in range(n):
        if i == fail_at:
            raise ValueError(f"at {i}")
        yield i


def attempt(what, make):
    try:
        print(what, make())
    except Exception as error:
        print(what, type(error).__name__.replace("Ray", "").replace("TaskError", "").strip("()"))


print("list:", ray.get(list(count.remote(4))))
print("islice:", [ray.get(r) for r in itertools.islice(count.remote(100), 3)])
print("enumerate:", [(i, ray.get(r)) for i, r in enumerate(count.remote(3))])
print("zip:", [(ray.get(a), ray.get(b)) for a, b in zip(count.remote(5), count.remote(3))])
print("map:", list(map(ray.get, count.remote(3))))
print("sum:", sum(ray.get(r) for r in count.remote(50)))
print("chain:", [ray.get(r) for r in itertools.chain(count.remote(2), count.remote(2))])
print("unpacked:", [ray.get(r) for r in (lambda a, b, c: (c, b, a))(*count.remote(3))])
first, *rest = count.remote(4)
print("starred:", ray.get(first), ray.get(rest))
print("next with a default:", next(count.remote(0), "nothing"))
print("iter is itself:", (lambda g: iter(g) is g)(count.remote(1)))
items = count.remote(2)
print("for twice:", [ray.get(r) for r in items], [ray.get(r) for r in items])
attempt("len", lambda: len(count.remote(2)))
attempt("index", lambda: count.remote(2)[0])
attempt("get", lambda: type(ray.get(count.remote(2))).__name__)
attempt("as an argument", lambda: ray.get(ray.remote(lambda g: 1).remote(count.remote(2))))
attempt("put", lambda: ray.put(count.remote(2)))
failing = count.remote(5, fail_at=2)
got = []
for ref in failing:
    try:
        got.append(ray.get(ref))
    except ValueError as error:
        got.append(f"ValueError {isinstance(error, ray.exceptions.RayTaskError)}")
print("an error in the middle:", got)
attempt("an error at once", lambda: ray.get(next(count.remote(3, fail_at=0))))
print("completed:", (lambda g: (list(g), ray.get(g.completed()))[1])(count.remote(2)))


@ray.remote
def delegates(n):
    yield from (i * 10 for i in range(n))
    return "lost"


print("yield from:", [ray.get(r) for r in delegates.remote(2)])


@ray.remote
def consumes(refs):
    return sum(ray.get(refs))


print("references as an argument:", ray.get(consumes.remote(list(count.remote(4)))))


@ray.remote
def produces_and_consumes(n):
    return [ray.get(r) for r in count.remote(n)]


print("inside of a task:", ray.get(produces_and_consumes.remote(3)))


@ray.remote
def relays(n):
    for ref in count.remote(n):
        yield ray.get(ref) + 100


print("a generator of a generator:", [ray.get(r) for r in relays.remote(3)])


@ray.remote(num_cpus=0)
class Source:
    def __init__(self):
        self.closed = False

    def items(self, n):
        try:
            for i in range(n):
                yield i
        finally:
            self.closed = True

    def lazily(self, n):
        return (i for i in range(n))

    async def later(self, n):
        for i in range(n):
            yield i

    def was_closed(self):
        return self.closed


source = Source.remote()
print("of an actor:", [ray.get(r) for r in source.items.remote(3)], ray.get(source.was_closed.remote()))
attempt("returned, not yielded", lambda: type(ray.get(source.lazily.remote(2))).__name__)
attempt("returned, streaming", lambda: [ray.get(r) for r in source.lazily.options(num_returns="streaming").remote(2)])
print("async of an actor:", [ray.get(r) for r in source.later.remote(3)])
for _ in range(20):
    next(count.remote(3))
print("left early, many times:", ray.get(next(count.remote(1))))
print("none:", [ray.get(r) for r in count.remote(0)])
print("of none:", [ray.get(r) for r in ray.remote(lambda: (yield)).remote()])

"""Signatures as people write them: defaults, only keywords, only positions, any number, annotations."""

from typing import Generic, NamedTuple, Optional, TypeVar

import hpc as ray

ray.init(num_cpus=2)
T = TypeVar("T")


@ray.remote
def everything(a, /, b, c=3, *rest, d, e=5, **more):
    return a, b, c, rest, d, e, more


print(ray.get(everything.remote(1, 2, d=4)))
print(ray.get(everything.remote(1, b=2, d=4, a=9)))
print(ray.get(everything.remote(1, 2, 3, 4, 5, d=6, f=7, g=8)))
for what, args, kwargs in (
    ("nothing", (), {}),
    ("only positions given as a keyword", (), {"a": 1, "b": 2, "d": 3}),
    ("a keyword is missing", (1, 2), {}),
    ("twice", (1, 2), {"b": 3, "d": 4}),
):
    try:
        everything.remote(*args, **kwargs)
        print(what, "accepted")
    except TypeError as error:
        print(what, "TypeError:", error)


@ray.remote
def collects(x, into=[]):
    into.append(x)
    return list(into)


print("a default list:", len(ray.get(collects.remote(1))), ray.get(collects.remote(2, [])))


@ray.remote
def only_keywords(*, name: str, size: Optional[int] = None) -> str:
    """Says its name."""
    return f"{name} {size}"


print(ray.get(only_keywords.remote(name="n")), ray.get(only_keywords.remote(**{"name": "m", "size": 2})))


class Pair(NamedTuple):
    left: int
    right: int = 0


class Box(Generic[T]):
    def __init__(self, value: T):
        self.value = value

    def get(self) -> T:
        return self.value


@ray.remote
def unpack(pair: Pair, box: "Box[int]"):
    left, right = pair
    return type(pair).__name__, left, right, pair._fields, box.get(), type(box).__name__


print(ray.get(unpack.remote(Pair(1), Box[int](5))))


@ray.remote
def names(**options):
    return sorted(options)


print(ray.get(names.remote(args=1, kwargs=2, num_cpus=3, name="x", self="s", function="f")))


@ray.remote
class Keywords:
    def __init__(self, *args, **kwargs):
        self.args, self.kwargs = args, kwargs

    def show(self, *args, cls=None, method=None, **kwargs):
        return self.args, sorted(self.kwargs.items()), args, cls, method, sorted(kwargs.items())


keywords = Keywords.remote(1, 2, args=3, kwargs=4, name="no option", cls="c")
print(ray.get(keywords.show.remote(5, cls=6, method=7, actor=8, num_returns=9)))

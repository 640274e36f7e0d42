"""Values people pass: enums, tuples, dataclasses, subclasses of containers, types, paths, dates; what cannot go."""

import collections
import dataclasses
import datetime
import decimal
import enum
import functools
import ipaddress
import itertools
import operator
import pathlib
import re
import string
import types
from typing import Generic, NamedTuple, Optional, TypedDict, TypeVar

import hpc as ray

ray.init(num_cpus=2)
T = TypeVar("T")


class Color(enum.Enum):
    RED = 1
    GREEN = "g"


class Flag(enum.IntFlag):
    A = 1
    B = 2


class Level(str, enum.Enum):
    LOW = "low"


class Pair(NamedTuple):
    left: int
    right: "Optional[str]" = None


class Movie(TypedDict):
    title: str


@dataclasses.dataclass(order=True, frozen=True)
class Version:
    major: int
    tags: tuple = ()
    hidden: int = dataclasses.field(default=3, compare=False, repr=False)


@dataclasses.dataclass
class Tree(Generic[T]):
    value: T
    children: "list[Tree[T]]" = dataclasses.field(default_factory=list)


class Outer:
    class Inner:
        def __eq__(self, other):
            return type(other) is type(self)

        __hash__ = None


class Lazy:
    def __init__(self):
        self.cache = {}

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return f"made {name}"


class Versioned:
    def __init__(self, x):
        self.x, self.handle = x, object()

    def __getstate__(self):
        return {"x": self.x}

    def __setstate__(self, state):
        self.x, self.handle = state["x"], "again"


class IntList(list):
    def total(self):
        return sum(self)


class Default(dict):
    def __missing__(self, key):
        return f"no {key}"


class Str(str):
    extra = None


class Single:
    instance = None

    def __new__(cls):
        cls.instance = cls.instance or super().__new__(cls)
        return cls.instance


@ray.remote
def same(x):
    return x


@ray.remote
def look(x, what):
    return what(x)


VALUES = [
    Color.RED,
    Color.GREEN,
    Flag.A | Flag.B,
    Level.LOW,
    Pair(1),
    Pair(1, "r"),
    Movie(title="t"),
    Version(1, ("x",)),
    Tree(1, [Tree(2)]),
    Outer.Inner(),
    range(3),
    frozenset({1}),
    {1, 2},
    collections.OrderedDict(b=1, a=2),
    collections.Counter("abca"),
    collections.deque([1, 2], maxlen=2),
    collections.ChainMap({"a": 1}),
    types.SimpleNamespace(a=1),
    types.MappingProxyType({"a": 1}),
    datetime.datetime(2020, 1, 2, tzinfo=datetime.timezone.utc),
    datetime.timedelta(1),
    datetime.date(2020, 1, 2),
    decimal.Decimal("0.10"),
    pathlib.Path("/a/b"),
    pathlib.PurePosixPath("c"),
    re.compile("a+", re.I),
    ipaddress.ip_address("10.0.0.1"),
    string.Template("$a").template,
    slice(1, 2),
    ...,
    NotImplemented,
    float("inf"),
    -0.0,
    10**40,
    1j,
    "é\U0001f600\x00",
    b"\x00\xff",
    bytearray(b"ab"),
    (),
    [],
    {},
    "",
    None,
    True,
    IntList([1, 2]),
    Default(a=1),
    Str("s"),
    list[int],
    dict[str, int],
    int | None,
    Color,
    Pair,
    Version,
    len,
    operator.add,
    operator.itemgetter(1),
    functools.partial(max, 1),
    datetime,
    [[[[[[1]]]]]],
    {"a": {"b": {"c": {"d": {"e": 1}}}}},
    {(1, 2): {3}, None: [], 1.5: "x", True: "yes"},
    [Color.RED, {Color.GREEN: Pair(1)}],
]
for value in VALUES:
    try:
        back = ray.get(same.remote(value))
        print(type(back).__name__, type(back) is type(value), back == value or back is value)
    except Exception as error:
        print(type(value).__name__, type(error).__name__)
print(
    "identity:",
    ray.get(same.remote(Color.RED)) is Color.RED,
    ray.get(same.remote(None)) is None,
    ray.get(same.remote(...)) is ...,
)
print("lazy:", ray.get(same.remote(Lazy())).anything)
print("state:", (lambda v: (v.x, v.handle))(ray.get(same.remote(Versioned(4)))))
print("list:", ray.get(same.remote(IntList([1, 2]))).total(), ray.get(look.remote(IntList([3]), lambda x: x.total())))
print("missing:", ray.get(look.remote(Default(), lambda x: x["k"])))
text = Str("s")
text.extra = 5
print("attribute of a str:", ray.get(same.remote(text)).extra)
print("default factory:", ray.get(look.remote(collections.defaultdict(list), lambda d: (d["x"], type(d).__name__))))
print("single:", ray.get(look.remote(Single(), lambda s: type(s).__name__)))
print("enum inside:", ray.get(look.remote(Color.RED, lambda c: (c.name, c is type(c).RED, c.value))))
shared = [1]
back = ray.get(same.remote([shared, shared, {"k": shared}]))
print("shared inside:", back[0] is back[1], back[0] is back[2]["k"])
first, second = (
    ray.get(look.remote((shared, shared), lambda p: p[0] is p[1])),
    ray.get(ray.remote(lambda a, b: a is b).remote(shared, shared)),
)
print("shared between arguments:", first, second)
counter = itertools.count(5)
next(counter)
print("count:", ray.get(look.remote(counter, next)))
for name, value in (
    ("generator", (i for i in range(3))),
    ("file", open(__file__)),
    ("module lock", __import__("threading").Lock()),
    ("frame", __import__("sys")._getframe()),
):
    try:
        same.remote(value)
        print(name, "accepted")
    except TypeError as error:
        print(name, "TypeError", "pickle" in str(error) or "serial" in str(error))
print("mutation stays there:", ray.get(look.remote(shared, lambda x: x.append(2) or x)), shared)
kept = ray.put(shared)
ray.get(kept).append(9)
print("and in what get gave:", ray.get(kept))

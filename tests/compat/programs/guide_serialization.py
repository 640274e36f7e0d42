"""What can be passed: classes of users, lambdas, exceptions, custom reducers, what cannot be pickled."""

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import threading
import uuid

import hpc as ray

ray.init(num_cpus=2)


@dataclasses.dataclass
class Point:
    x: int
    y: int = 2


class Color(enum.Enum):
    RED = 1


class Custom:
    def __init__(self, value):
        self.value = value

    def __reduce__(self):
        return (Custom, (self.value + 1,))


Pair = collections.namedtuple("Pair", "left right")


@ray.remote
def echo(value):
    return value


print(ray.get(echo.remote(Point(1))), ray.get(echo.remote(Color.RED)))
print(ray.get(echo.remote(Pair(1, 2))), ray.get(ray.put(Custom(1))).value)
for value in (
    datetime.date(2020, 1, 2),
    decimal.Decimal("1.5"),
    fractions.Fraction(1, 3),
    uuid.UUID(int=5),
    complex(1, 2),
    collections.OrderedDict(a=1),
    collections.Counter("aab"),
    collections.deque([1]),
    bytearray(b"b"),
    memoryview(b"m").tobytes(),
    slice(1, 2),
    NotImplemented,
    int,
    len,
    Point,
):
    back = ray.get(echo.remote(value))
    print(type(back).__name__, back == value or back is value)
print(ray.get(echo.remote(lambda x: x + 1))(1))
try:
    echo.remote(threading.Lock())
except TypeError as error:
    print("TypeError", "lock" in str(error))
try:
    ray.put(threading.Lock())
except TypeError as error:
    print("TypeError", "lock" in str(error))


class Connection:
    def __init__(self, address):
        self.address, self.lock = address, threading.Lock()


ray.util.register_serializer(Connection, serializer=lambda c: c.address, deserializer=Connection)
print(ray.get(ray.put(Connection("here"))).address)
ray.util.deregister_serializer(Connection)

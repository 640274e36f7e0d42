"""Actor classes as people write them: properties, special methods, inheritance, generics, dataclasses, slots."""

import abc
import dataclasses
import enum
from typing import Generic, TypeVar

import hpc as ray

ray.init(num_cpus=2)
T = TypeVar("T")


class Base(abc.ABC):
    kinds = []

    def __init__(self, name):
        self.name = name

    @abc.abstractmethod
    def kind(self): ...

    def hello(self):
        return f"{self.kind()} {self.name}"

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        Base.kinds.append(cls.__name__)


class Mixin:
    def hello(self):
        return super().hello() + "!"


class Dog(Mixin, Base):
    def kind(self):
        return "dog"


print(ray.get(ray.remote(Dog).options(num_cpus=0).remote("Rex").hello.remote()))
try:
    actor = ray.remote(Base).options(num_cpus=0).remote("x")
    ray.get(actor.hello.remote())
except Exception as error:
    print("abstract:", type(error).__name__, "abstract" in str(error))


@ray.remote(num_cpus=0)
@dataclasses.dataclass
class Settings:
    size: int
    names: list = dataclasses.field(default_factory=list)

    def add(self, name):
        self.names.append(name)
        return self.size, self.names


settings = Settings.remote(3)
settings.add.remote("a")
print("a dataclass:", ray.get(settings.add.remote("b")))


@ray.remote(num_cpus=0)
class Generic_(Generic[T]):
    def __init__(self, value: T):
        self.value = value

    def get(self) -> T:
        return self.value


print("generic:", ray.get(Generic_.remote(3).get.remote()))


@ray.remote(num_cpus=0)
class Special:
    __slots__ = ("_x", "calls")

    class Mode(enum.Enum):
        FAST = 1

    def __init__(self):
        self._x, self.calls = 1, 0

    @property
    def x(self):
        return self._x

    @x.setter
    def x(self, value):
        self._x = value

    def set(self, value):
        self.x = value
        return self.x

    def __len__(self):
        return 7

    def __call__(self, y):
        return self._x + y

    def __getitem__(self, key):
        return key * 2

    def __enter__(self):
        return "entered"

    def mode(self):
        return self.Mode.FAST.name, type(self).__name__, self.__class__.__qualname__

    @classmethod
    def of_class(cls):
        return cls.__name__

    @staticmethod
    def of_nothing(x):
        return x + 1

    def _private(self):
        return "private"

    def __mangled(self):
        return "mangled"

    def calls_mangled(self):
        return self.__mangled()


special = Special.remote()


def attempt(what, make):
    try:
        print(what, make())
    except Exception as error:
        print(what, type(error).__name__)


attempt("setter", lambda: ray.get(special.set.remote(4)))
attempt("property", lambda: special.x)
attempt("property called", lambda: ray.get(special.x.remote()))
attempt("__call__", lambda: ray.get(special.__call__.remote(1)))
attempt("called", lambda: special(1))
attempt("__len__", lambda: ray.get(special.__len__.remote()))
attempt("len", lambda: len(special))
attempt("__getitem__", lambda: ray.get(special.__getitem__.remote(4)))
attempt("item", lambda: special[1])
attempt("__enter__", lambda: ray.get(special.__enter__.remote()))
attempt("mode", lambda: ray.get(special.mode.remote()))
attempt("classmethod", lambda: ray.get(special.of_class.remote()))
attempt("staticmethod", lambda: ray.get(special.of_nothing.remote(1)))
attempt("_private", lambda: ray.get(special._private.remote()))
attempt("__mangled", lambda: ray.get(special._Special__mangled.remote()))
attempt("calls mangled", lambda: ray.get(special.calls_mangled.remote()))
attempt("no such", lambda: special.nothing)
attempt("no such remote", lambda: special.nothing.remote())
attempt("hasattr", lambda: (hasattr(special, "set"), hasattr(special, "nothing"), hasattr(special, "x")))
attempt("set an attribute", lambda: setattr(special, "y", 1))
attempt("direct call", lambda: special.set(1))
attempt("instance of the class", lambda: Special())
attempt("subclass", lambda: type("Sub", (Special,), {}))
attempt("isinstance", lambda: isinstance(special, ray.actor.ActorHandle))
attempt("bool", lambda: bool(special))
attempt("hash", lambda: hash(special) == hash(special))
attempt("iterate", lambda: list(iter(special)))
attempt("__ray_ready__", lambda: ray.get(special.__ray_ready__.remote()))
attempt("__ray_call__", lambda: ray.get(special.__ray_call__.remote(lambda self, n: self._x + n, 2)))
attempt(
    "__ray_call__ keyword",
    lambda: ray.get(special.__ray_call__.remote(lambda self, *, n: (type(self).__name__, n), n=3)),
)

"""Actors of classes that inherit, are abstract, generic, dataclasses; options at each place."""

import abc
import dataclasses
import typing

import hpc as ray

ray.init(num_cpus=2)
T = typing.TypeVar("T")


class Shape(abc.ABC):
    def __init__(self, name):
        self.name = name

    @abc.abstractmethod
    def area(self): ...

    def describe(self):
        return f"{self.name} {self.area()}"


@ray.remote
class Square(Shape):
    def __init__(self, side):
        super().__init__("square")
        self.side = side

    def area(self):
        return self.side**2


@ray.remote
@dataclasses.dataclass
class Point:
    x: int
    y: int = 2

    def total(self):
        return self.x + self.y


@ray.remote
class Stack(typing.Generic[T]):
    def __init__(self) -> None:
        self.items: list[T] = []

    def push(self, item: T) -> int:
        self.items.append(item)
        return len(self.items)


class Mixin:
    def hello(self):
        return "hello " + type(self).__name__


@ray.remote(num_cpus=1, max_restarts=1)
class Mixed(Mixin, dict):
    def __init__(self):
        super().__init__(a=1)

    def content(self):
        return dict(self)


def show(what, call):
    try:
        print(what, call())
    except Exception as error:
        print(what, type(error).__name__, str(error).splitlines()[-1])


show("abstract", lambda: ray.get(Square.remote(3).describe.remote()))
show("abstract wrong", lambda: Square.remote())
show("dataclass", lambda: ray.get(Point.remote(1).total.remote()))
show("dataclass keywords", lambda: ray.get(Point.remote(y=5, x=1).total.remote()))
show("dataclass wrong", lambda: Point.remote(1, 2, 3))
show("generic", lambda: ray.get(Stack.remote().push.remote("a")))
mixed = Mixed.remote()
show("mixin", lambda: ray.get(mixed.hello.remote()).split()[0])
show("dict", lambda: ray.get(mixed.content.remote()))
show("later decoration", lambda: ray.get(ray.remote(Mixin).options(num_cpus=0).remote().hello.remote()).split()[0])
show("with options", lambda: ray.get(ray.remote(num_cpus=0)(Mixin).remote().hello.remote()).split()[0])

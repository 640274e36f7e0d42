"""Arguments that do not fit are refused where remote() is called."""

import functools

import hpc as ray

ray.init(num_cpus=2)


def show(what, call):
    try:
        print(what, call())
    except TypeError as error:
        print(what, "TypeError:", error)


def logged(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        return function(*args, **kwargs)

    return inner


@ray.remote
def add(a, b=1, c=2, *, d=3):
    return a, b, c, d


@ray.remote
def anything(*args, **kwargs):
    return args, kwargs


@ray.remote
class Box:
    def __init__(self, size, *, colour="red"):
        self.size = size

    def grow(self, by, *, twice=False):
        return self.size + by

    @staticmethod
    def of(x):
        return x

    @classmethod
    def kind(cls, x):
        return cls.__name__, x

    @logged
    def wrapped(self, x, y=3):
        return x, y

    def none(self):
        return None


class Empty:
    def ping(self):
        return "pong"


box = Box.remote(1)
show("f()", lambda: add.remote())
show("f(1)", lambda: ray.get(add.remote(1)))
show("f(1, 2, 3, 4)", lambda: add.remote(1, 2, 3, 4))
show("f(1, c=5, d=6)", lambda: ray.get(add.remote(1, c=5, d=6)))
show("f(1, e=2)", lambda: add.remote(1, e=2))
show("f(1, 2, 3, c=2)", lambda: add.remote(1, 2, 3, c=2))
show("f.options()()", lambda: add.options(num_cpus=0).remote())
show("any", lambda: ray.get(anything.remote(1, 2, x=3)))
show("lambda", lambda: ray.remote(lambda x: x).remote())
show("Box()", lambda: Box.remote())
show("Box(1, 2)", lambda: Box.remote(1, 2))
show("Box(1, form=2)", lambda: Box.remote(1, form=2))
show("Box.options()(1, 2)", lambda: Box.options(num_cpus=0).remote(1, 2))
show("Empty(1)", lambda: ray.remote(Empty).remote(1))
show("grow()", lambda: box.grow.remote())
show("grow(1, 2)", lambda: box.grow.remote(1, 2))
show("grow(1, x=2)", lambda: box.grow.remote(1, x=2))
show("grow(2, twice=True)", lambda: ray.get(box.grow.remote(2, twice=True)))
show("grow.options()()", lambda: box.grow.options(num_returns=1).remote())
show("of()", lambda: box.of.remote())
show("kind()", lambda: box.kind.remote())
show("kind(1)", lambda: ray.get(box.kind.remote(1)))
show("wrapped()", lambda: box.wrapped.remote())
show("wrapped(1)", lambda: ray.get(box.wrapped.remote(1)))
show("none(1)", lambda: box.none.remote(1))


@ray.remote
def elsewhere(handle):
    try:
        handle.grow.remote()
    except TypeError as error:
        return str(error)


show("with a handle in a task", lambda: ray.get(elsewhere.remote(box)))

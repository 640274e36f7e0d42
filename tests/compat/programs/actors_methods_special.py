"""Methods of every kind through a handle."""

import functools

import hpc as ray

ray.init(num_cpus=2)


def logged(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        return function(*args, **kwargs)

    return inner


@ray.remote
class Kinds:
    def __init__(self):
        self.value = 3

    def __len__(self):
        return 7

    def __getitem__(self, key):
        return key * 2

    def __call__(self, x):
        return x + 1

    def __contains__(self, x):
        return x == 1

    @property
    def prop(self):
        return 5

    @staticmethod
    def static(x):
        return x * 3

    @classmethod
    def of_class(cls, x):
        return cls.__name__, x

    @logged
    @ray.method(num_returns=2)
    def two(self):
        return 1, 2

    @ray.method
    def bare(self):
        return "bare"

    def items(self, n):
        for i in range(n):
            yield i

    def _private(self):
        return "private"

    lam = lambda self, x: x + self.value  # noqa: E731


def show(what, call):
    try:
        print(what, call())
    except Exception as error:
        print(what, type(error).__name__)


a = Kinds.remote()
show("len", lambda: ray.get(a.__len__.remote()))
show("len()", lambda: len(a))
show("getitem", lambda: ray.get(a.__getitem__.remote(4)))
show("contains", lambda: ray.get(a.__contains__.remote(1)))
show("call", lambda: ray.get(a.__call__.remote(4)))
show("call direct", lambda: a(4))
show("property", lambda: a.prop)
show("static", lambda: ray.get(a.static.remote(4)))
show("class method", lambda: ray.get(a.of_class.remote(4)))
show("two", lambda: ray.get(a.two.remote()))
show("bare", lambda: ray.get(a.bare.remote()))
show("private", lambda: ray.get(a._private.remote()))
show("lambda", lambda: ray.get(a.lam.remote(2)))
show("generator", lambda: [ray.get(ref) for ref in a.items.remote(3)])
show("ready", lambda: ray.get(a.__ray_ready__.remote()))
show("ray_call", lambda: ray.get(a.__ray_call__.remote(lambda self, x, y=1: self.value + x + y, 10, y=5)))
show("absent", lambda: a.absent)
show("direct", lambda: a.bare())
show("class direct", lambda: Kinds())
show("options", lambda: ray.get(a.static.options(name="named").remote(2)))
show("_remote", lambda: ray.get(a.static._remote((4,))))
show("_remote with keywords", lambda: ray.get(a.static._remote(args=[], kwargs={"x": 5})))
show("_remote with returns", lambda: ray.get(a.two._remote(num_returns=2)))
show("_remote of the class", lambda: ray.get(Kinds._remote(num_cpus=0).bare.remote()))
method = a.static
show("a method kept", lambda: ray.get([method.remote(i) for i in range(3)]))
show("repr", lambda: repr(a).split("(")[1].split(",")[0])
show("equal", lambda: (a == a, a != a, a == 5, len({a, a})))

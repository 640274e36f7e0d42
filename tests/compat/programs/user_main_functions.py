"""Where functions come from: exec, classes, closures, lambdas, partial, builtins, themselves by name."""

import functools
import math
import operator

import hpc as ray

ray.init(num_cpus=2)
LIMIT = 3


def helper(x):
    return min(x, LIMIT)


@ray.remote
def uses_globals(x):
    return helper(x), LIMIT, math.floor(x)


print(ray.get(uses_globals.remote(7.5)))
LIMIT = 5
print("afterwards:", ray.get(uses_globals.remote(7.5)))


class Steps:
    factor = 10

    @ray.remote
    def inside(x):
        return x * 2

    @staticmethod
    @ray.remote
    def static(x):
        return x * 3

    @classmethod
    def launch(cls, x):
        return ray.get([cls.inside.remote(x), cls.static.remote(x)])

    def bound(self, x):
        return x * self.factor

    def __call__(self, x):
        return x + self.factor


print("in a class:", Steps.launch(1), ray.get(Steps().static.remote(2)))
print("a bound method:", ray.get(ray.remote(lambda f, x: f(x)).remote(Steps().bound, 4)))


def attempt(what, make):
    try:
        print(what, make())
    except Exception as error:
        print(what, type(error).__name__)


attempt("remote of a bound method", lambda: ray.get(ray.remote(Steps().bound).remote(4)))
attempt("remote of a partial", lambda: ray.get(ray.remote(functools.partial(helper, 2)).remote()))
attempt("remote of a builtin", lambda: ray.get(ray.remote(len).remote([1, 2])))
attempt("remote of math.sqrt", lambda: ray.get(ray.remote(math.sqrt).remote(4)))
attempt("remote of operator.add", lambda: ray.get(ray.remote(operator.add).remote(4, 5)))
attempt("remote of an instance", lambda: ray.get(ray.remote(Steps()).remote(1)))
attempt("remote of a number", lambda: ray.remote(1))
attempt("remote of None", lambda: ray.remote(None))
attempt("remote of a remote function", lambda: ray.remote(uses_globals))
attempt("remote with brackets", lambda: ray.get(ray.remote()(helper).remote(1)))
attempt("remote of a wrapped function", lambda: ray.get(ray.remote(functools.lru_cache(helper)).remote(1)))
attempt("called directly", lambda: uses_globals(1))


def counted(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        return function(*args, **kwargs), function.__name__

    return inner


@ray.remote
@counted
def decorated(x):
    return x


print("decorated below:", ray.get(decorated.remote(1)))


@ray.remote
def factorial(n):
    return 1 if n < 2 else n * ray.get(factorial.remote(n - 1))


print("itself by its name:", ray.get(factorial.remote(5)))
source = """
import hpc as ray
LEVEL = 2
@ray.remote
def from_source(x):
    return x + LEVEL
@ray.remote
class FromSource:
    def level(self):
        return LEVEL
""".replace("h" + "pc", ray.__name__)
names = {"__name__": "__main__"}
exec(source, names)
print("exec:", ray.get(names["from_source"].remote(1)), ray.get(names["FromSource"].remote().level.remote()))


def make(n):
    def inner(x):
        return x + n

    return ray.remote(inner)


adders = [make(n) for n in range(4)]
print("closures:", ray.get([adder.remote(10) for adder in adders]))
print("lambdas in a loop:", ray.get([ray.remote(lambda: n).remote() for n in range(4)]))
print("late binding:", [ray.get(f.remote()) for f in [ray.remote(lambda: n) for n in range(3)]])
total = 0


@ray.remote
def adds():
    global total
    total += 1
    return total


print("a global stays:", [ray.get(adds.remote()) > 0 for _ in range(3)], total)

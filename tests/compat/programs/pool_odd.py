"""A pool without init before it, functions that end their process, nested results, many small calls."""

import os
import warnings

import hpc as ray
from hpc.util.multiprocessing import Pool


def double(x):
    return 2 * x


def returns_function(x):
    return lambda y: x + y


def gives(x):
    yield x


class Bad:
    def __call__(self, x):
        return x

    def __reduce__(self):
        raise RuntimeError("does not travel")


def show(what, call):
    try:
        print(what, call())
    except Exception as error:
        print(what, [isinstance(error, kind) for kind in (TypeError, RuntimeError)])


pool = Pool(2)
print("without init before:", ray.is_initialized(), pool.map(double, [1, 2]))
show("functions as results:", lambda: [f(1) for f in pool.map(returns_function, [1, 2])])
show("a generator as a result:", lambda: pool.apply(gives, (1,)))
show("a function that does not travel:", lambda: pool.map(Bad(), [1]))
show("after it:", lambda: pool.map(double, [1]))
show("an argument that does not travel:", lambda: pool.map(type, [Bad()]))
show("after it:", lambda: pool.map(double, [1]))
show("many small calls:", lambda: sum(result.get() for result in [pool.apply_async(double, (n,)) for n in range(300)]))
show("a long list:", lambda: sum(pool.map(double, range(20_000))))
show("exceptions as arguments:", lambda: pool.apply(repr, (ValueError("a"),)))
show("one call in another's results:", lambda: pool.map(double, pool.map(double, range(3))))
show("a map over an imap:", lambda: pool.map(double, pool.imap(double, range(3))))
show("named arguments of map:", lambda: pool.map(func=double, iterable=[1, 2], chunksize=1))
show("named arguments of starmap:", lambda: pool.starmap(func=pow, iterable=[(2, 3)]))
show("named arguments of apply:", lambda: pool.apply(func=double, args=(2,)))
show("named arguments of imap:", lambda: list(pool.imap(func=double, iterable=[1], chunksize=1)))
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    other = Pool(1, context="spawn")
print("a context:", other.map(double, [4]))
other.terminate()
print("environment:", pool.apply(os.environ.get, ("HOME",)) == os.environ.get("HOME"))
pool.terminate()

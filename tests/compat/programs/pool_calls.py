"""multiprocessing.Pool: map, starmap, apply and their asynchronous forms, with all kinds of functions and iterables."""

import functools
import multiprocessing
import operator

import hpc as ray
from hpc.util.multiprocessing import Pool, TimeoutError

ray.init(num_cpus=2)


class Scale:
    def __init__(self, by):
        self.by = by

    def times(self, x):
        return x * self.by

    def __call__(self, x):
        return x + self.by

    @classmethod
    def named(cls, x):
        return f"{cls.__name__}{x}"

    @staticmethod
    def plain(x):
        return -x


def show(what, call):
    try:
        print(what, call())
    except Exception as error:
        print(what, type(error).__name__)


def power(x, exponent=2):
    return x**exponent


def nothing():
    return None


pool = Pool(2)
offset = 10
show("lambda:", lambda: pool.map(lambda x: x + offset, range(4)))
show("method:", lambda: pool.map(Scale(3).times, range(4)))
show("callable:", lambda: pool.map(Scale(3), range(4)))
show("class and static method:", lambda: (pool.map(Scale.named, [1, 2]), pool.map(Scale.plain, [1, 2])))
show("partial:", lambda: pool.map(functools.partial(power, exponent=3), range(4)))
show("builtin:", lambda: (pool.map(len, ["", "a", "ab"]), pool.map(str.upper, "ab"), pool.map(operator.neg, (1, 2))))
show("class:", lambda: pool.map(int, ["1", "2"]))
for what, iterable in (
    ("list", [1, 2, 3]),
    ("tuple", (1, 2, 3)),
    ("generator", (x for x in (1, 2, 3))),
    ("set", {5}),
    ("dict", {"a": 1}),
    ("string", "abc"),
    ("empty", []),
    ("empty generator", iter(())),
    ("map object", map(abs, [-1, -2])),
):
    show(f"of a {what}:", lambda: pool.map(lambda x: [x], iterable))
for size in (1, 2, 3, 100):
    show(f"chunks of {size}:", lambda: pool.map(power, range(7), chunksize=size))
show("starmap:", lambda: pool.starmap(power, [(2, 3), [3, 2], (4,)]))
show("starmap of a generator:", lambda: pool.starmap(power, ((x, x) for x in range(3))))
show("starmap in chunks:", lambda: pool.starmap(power, zip(range(4), range(4)), 2))
show("starmap of no tuples:", lambda: pool.starmap(power, [1, 2]))
show("apply:", lambda: pool.apply(power, (3,)))
show("apply with keywords:", lambda: pool.apply(power, (3,), {"exponent": 3}))
show("apply with kwargs=:", lambda: pool.apply(power, args=(3,), kwargs={"exponent": 4}))
show("apply of nothing:", lambda: pool.apply(nothing))
show("apply of None:", lambda: pool.apply(nothing, None, None))
show("too many arguments:", lambda: pool.apply(power, (1, 2, 3)))
show("apply_async:", lambda: pool.apply_async(power, (3,), {"exponent": 3}).get())
show("map_async:", lambda: pool.map_async(power, range(5)).get())
show("map_async in chunks:", lambda: pool.map_async(power, range(5), 2).get(timeout=60))
show("starmap_async:", lambda: pool.starmap_async(power, [(1, 2), (2, 3)]).get())
show("not iterable:", lambda: pool.map(power, 3))
show("not callable:", lambda: pool.apply(3))
show("None in results:", lambda: pool.map(lambda x: None, range(3)))
show("large values:", lambda: [len(x) for x in pool.map(lambda n: b"x" * n, [1, 200_000, 2_000_000])])
show("references:", lambda: pool.map(lambda ref: ray.get(ref), [ray.put(1), ray.put(2)]))
show("order:", lambda: pool.map(lambda x: x, range(100)) == list(range(100)))
print("time-out's class:", TimeoutError is multiprocessing.TimeoutError, issubclass(TimeoutError, Exception))


def in_threads():
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as threads:
        return sum(threads.map(lambda n: pool.apply(power, (n,)), range(20)))


show("from threads:", in_threads)


@ray.remote(num_cpus=0)
def in_a_task():
    with Pool(2) as inner:
        return inner.map(power, range(4))


show("in a task:", lambda: ray.get(in_a_task.remote()))


def in_a_process(x):
    with Pool(1) as inner:
        return inner.map(power, range(x))


show("in a process of a pool:", lambda: pool.apply(in_a_process, (3,)))
pool.close()
pool.join()

"""imap and imap_unordered: order, chunks, endless iterables, errors in the middle, time-outs."""

import itertools
import time

import hpc as ray
from hpc.util.multiprocessing import Pool, TimeoutError

ray.init(num_cpus=2)


def double(x):
    return 2 * x


def slow(x):
    time.sleep(x)
    return x


def picky(x):
    if x == 2:
        raise ValueError("two")
    return x


def steps(results, limit=20):
    found = []
    for _ in range(limit):
        try:
            found.append(results.next())
        except StopIteration:
            found.append("end")
            break
        except Exception as error:
            found.append(type(error).__name__)
    return found


pool = Pool(2)
for size in (1, 2, 3, 10):
    print(f"imap in chunks of {size}:", list(pool.imap(double, range(7), chunksize=size)))
    print(f"unordered in chunks of {size}:", sorted(pool.imap_unordered(double, range(7), chunksize=size)))
print("of a generator:", list(pool.imap(double, (x for x in range(5)))), list(pool.imap(double, iter([1, 2, 3]), 2)))
print("unordered of a generator:", sorted(pool.imap_unordered(double, (x for x in range(5)))))
print("of a string:", list(pool.imap(str.upper, "abc")))
results = pool.imap(double, [1, 2])
print("an iterator:", iter(results) is results, next(results), results.next())
print("its end:", next(results, "none"), next(results, "none"))
print("order:", list(pool.imap(slow, [0.6, 0.01, 0.02])))
print("as they come:", list(pool.imap_unordered(slow, [1.5, 0.01])))
print("endless:", list(itertools.islice(pool.imap(double, itertools.count()), 6)))
print("endless, unordered:", len(list(itertools.islice(pool.imap_unordered(double, itertools.count()), 6))))
print("endless in chunks:", list(itertools.islice(pool.imap(double, itertools.count(), chunksize=3), 7)))
taken = []


def source():
    for x in range(1000):
        taken.append(x)
        yield x


results = pool.imap(double, source())
print("taken at the start:", len(taken) < 100, [next(results) for _ in range(3)], len(taken) < 100)

results = pool.imap(slow, [1.5, 0.01])
try:
    results.next(timeout=0.1)
except TimeoutError as error:
    print("next in time:", type(error).__name__)
print("next after that:", results.next(timeout=60), results.next(), next(results, "end"))
results = pool.imap_unordered(slow, iter([1.5]))
try:
    results.next(timeout=0.1)
except TimeoutError as error:
    print("unordered next in time:", type(error).__name__)
print("unordered next after that:", results.next(), next(results, "end"))

found = steps(pool.imap(picky, range(5)))
print("an error in the middle:", len(found), found[:2], found[3:])
print("the error:", found[2])
found = steps(pool.imap(picky, range(5), chunksize=2))
print("in chunks:", len(found), found[:2], found[3:])
found = steps(pool.imap_unordered(picky, [1, 2]))
print("unordered:", len(found), 1 in found, found[-1])
print("pool after an error:", pool.map(double, [1, 2]))
print("two at once:", list(zip(pool.imap(double, range(3)), pool.imap(double, range(10, 13)))))
pool.close()
pool.join()

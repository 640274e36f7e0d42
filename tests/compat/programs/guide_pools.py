"""ActorPool and multiprocessing.Pool."""

import hpc as ray
from hpc.util import ActorPool
from hpc.util.multiprocessing import Pool

ray.init(num_cpus=2)


@ray.remote
class Worker:
    def double(self, x):
        return 2 * x

    def fail(self, x):
        if x == 2:
            raise ValueError("two")
        return x


pool = ActorPool([Worker.remote(), Worker.remote()])
print(list(pool.map(lambda a, v: a.double.remote(v), range(5))))
print(sorted(pool.map_unordered(lambda a, v: a.double.remote(v), range(5))))
pool.submit(lambda a, v: a.double.remote(v), 1)
pool.submit(lambda a, v: a.double.remote(v), 2)
pool.submit(lambda a, v: a.double.remote(v), 3)
print(pool.has_next(), pool.has_free(), pool.get_next(), pool.get_next(), pool.get_next(), pool.has_next())
try:
    pool.get_next()
except StopIteration as error:
    print("StopIteration", error)
found = []
results = pool.map(lambda a, v: a.fail.remote(v), range(4))
while True:
    try:
        found.append(next(results))
    except StopIteration:
        break
    except ValueError:
        found.append("error")
        break
print(found)


def square(x):
    return x * x


def add(a, b):
    return a + b


def third(x):
    if x == 3:
        raise KeyError(x)
    return x


with Pool(2) as processes:
    print(processes.map(square, range(5)))
    print(processes.starmap(add, [(1, 2), (3, 4)]))
    print(processes.apply(add, (1, 2)), processes.apply_async(square, (3,)).get())
    print(list(processes.imap(square, range(4))), sorted(processes.imap_unordered(square, range(4))))
    result = processes.map_async(third, range(5))
    result.wait()
    print(result.ready(), result.successful())
    try:
        result.get()
    except KeyError as error:
        print("KeyError")
try:
    processes.map(square, [1])
except ValueError as error:
    print("ValueError", error)

"""What apply_async, map_async and starmap_async return: get, wait, ready, successful, callbacks, errors."""

import threading
import time

import hpc as ray
from hpc.util.multiprocessing import Pool, TimeoutError

ray.init(num_cpus=2)


class Custom(Exception):
    def __init__(self, code, detail):
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


def identity(x):
    return x


def picky(x):
    if x in (3, 5):
        raise ValueError(f"no {x}")
    return x


def slow(x):
    time.sleep(x)
    return x


def add(a, b):
    return a + b


def show(what, call):
    try:
        print(what, call())
    except Exception as error:
        print(what, type(error).__name__, isinstance(error, ValueError), str(error).splitlines()[:1])


pool = Pool(2)
result = pool.apply_async(slow, (1.5,))
print("ready:", result.ready())
try:
    result.get(timeout=0)
except TimeoutError as error:
    print("TimeoutError:", type(error).__name__, isinstance(error, Exception))
try:
    result.successful()
except ValueError:
    print("successful before it is ready: ValueError")
print("wait in time:", result.wait(0.1), result.ready())
print("wait:", result.wait(), result.ready(), result.successful(), result.get(), result.get(timeout=0))
failed = pool.apply_async(picky, (3,))
failed.wait()
print("failed:", failed.ready(), failed.successful())
show("get of it:", failed.get)
show("get of it again:", failed.get)
show("map:", lambda: pool.map(picky, range(8)))
show("map in chunks:", lambda: pool.map(picky, range(8), chunksize=4))
show("map, the later first:", lambda: pool.map(lambda x: picky(x) or time.sleep(0.2), [0, 5, 1, 3], chunksize=1))
show("starmap:", lambda: pool.starmap(add, [(1, 2), (1, "a")]))
show("division:", lambda: pool.apply(divmod, (1, 0)))


def custom():
    raise Custom(3, detail="why")


def custom_attributes():
    error = KeyError("k")
    error.extra = [1, 2]
    raise error


try:
    pool.apply(custom_attributes)
except KeyError as error:
    print("attributes:", error.args, error.extra)


show("an exception that pickle cannot make again:", lambda: pool.apply(custom))
for what, call in (
    ("returns", lambda: pool.apply(threading.Lock)),
    ("takes", lambda: pool.apply(identity, (threading.Lock(),))),
    ("one of many returns", lambda: pool.map(lambda x: threading.Lock(), [1, 2])),
):
    try:
        call()
    except TypeError as error:
        print(what, "an unpicklable value: TypeError")
show("after that:", lambda: pool.map(identity, [1, 2]))

# ---- callbacks
done = threading.Event()
seen = []


def note(kind):
    def called(value):
        seen.append((kind, sorted(value) if isinstance(value, list) else value))
        done.set()

    return called


def wait_for_one():
    done.wait(60)
    done.clear()
    return seen.pop()


pool.apply_async(add, (1, 2), callback=note("value"), error_callback=note("error"))
print("callback:", wait_for_one())
pool.apply_async(picky, (3,), callback=note("value"), error_callback=note("error"))
kind, error = wait_for_one()
print("error callback:", kind, isinstance(error, Exception))
print("its argument:", type(error).__name__)
pool.apply_async(add, (1, 2), {}, note("third"))
print("by position:", wait_for_one())
pool.map_async(identity, range(5), callback=note("values"), error_callback=note("error"))
print("callback of map:", wait_for_one())
pool.map_async(picky, range(8), 1, note("values"), note("error"))
print("error callback of map:", wait_for_one()[0])
pool.map_async(identity, [], callback=note("values"))
print("callback of an empty map:", wait_for_one())
pool.starmap_async(add, [(1, 2), (3, 4)], callback=note("values"), error_callback=note("error"))
print("callback of starmap:", wait_for_one())
pool.starmap_async(add, [(1, 2), (3, 4)], note("values"), note("error"))
print("callback of starmap by position:", wait_for_one())
pool.starmap_async(add, [(1, 2), (3, "a")], note("values"), note("error"))
print("error callback of starmap by position:", wait_for_one()[0])
result = pool.map_async(identity, [1, 2], callback=lambda values: (time.sleep(0.3), seen.append("called")))
print("get waits for the callback:", result.get(), seen)
result = pool.map_async(identity, range(20), chunksize=3)
result.wait(60)
print("many:", result.ready(), result.successful(), len(result.get()))
results = [pool.apply_async(slow, (0.02 * n,)) for n in (3, 2, 1)]
print("several:", [one.get() for one in results])
pool.terminate()

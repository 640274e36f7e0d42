"""util.queue: every method, at its limits, with time-outs, batches, coroutines, threads and after its end."""

import asyncio
import queue as standard
import threading
import time

import hpc as ray
from hpc.exceptions import RayActorError
from hpc.util.queue import Empty, Full, Queue

ray.init(num_cpus=2)


def show(what, call):
    try:
        print(what, call())
    except Exception as error:
        print(what, "raises", [isinstance(error, kind) for kind in (Empty, Full, ValueError, TypeError)])


queue = Queue(2)
print("classes:", issubclass(Empty, standard.Empty), issubclass(Full, standard.Full))
print("new:", queue.maxsize, queue.size(), queue.qsize(), len(queue), queue.empty(), queue.full())
show("put:", lambda: queue.put("a"))
show("put by name:", lambda: queue.put(item="b", block=True, timeout=5))
print("full:", queue.full(), queue.size(), queue.empty())
show("put of one too many, not blocking:", lambda: queue.put("c", False))
show("put_nowait of one too many:", lambda: queue.put_nowait("c"))
show("put of one too many, in time:", lambda: queue.put("c", timeout=0.1))
show("put, time-out 0:", lambda: queue.put("c", timeout=0))
show("batch of one too many:", lambda: queue.put_nowait_batch(["c"]))
show("empty batch:", lambda: queue.put_nowait_batch([]))
show("get:", lambda: (queue.get(), queue.get(block=True, timeout=5)))
show("get of none, not blocking:", lambda: queue.get(False))
show("get_nowait of none:", lambda: queue.get_nowait())
show("get of none, in time:", lambda: queue.get(True, 0.1))
show("get, time-out 0:", lambda: queue.get(timeout=0))
show("a batch of none:", lambda: queue.get_nowait_batch(0))
show("a batch of one:", lambda: queue.get_nowait_batch(1))
show("a batch that fits:", lambda: queue.put_nowait_batch((1, 2)))
show("a larger one:", lambda: queue.get_nowait_batch(3))
show("it is all there:", lambda: queue.get_nowait_batch(2))
show("a batch of no iterable:", lambda: queue.put_nowait_batch(3))
show("a batch of a text:", lambda: queue.get_nowait_batch("1"))
show("a negative batch:", lambda: queue.get_nowait_batch(-1))
show("negative time-outs:", lambda: queue.put(1, timeout=-1))
show("negative time-outs:", lambda: queue.get(timeout=-1))
while not queue.empty():
    queue.get()
for size in (0, -1):
    many = Queue(size)
    for n in range(100):
        many.put_nowait(n)
    print("no limit:", size, many.full(), many.size(), many.get_nowait_batch(100) == list(range(100)))
show("values:", lambda: [queue.put(x) or queue.get() for x in (None, (), {"a": [1]}, b"x" * 300_000 == 0, Empty)])


# ---- waiting at both ends
got = []
reader = threading.Thread(target=lambda: got.append(queue.get(timeout=60)))
reader.start()
time.sleep(0.2)
queue.put("late")
reader.join()
print("a reader that waited:", got)
queue.put_nowait_batch([1, 2])
writer = threading.Thread(target=queue.put, args=(3,))
writer.start()
time.sleep(0.2)
print("a writer that waited:", queue.get(), writer.join(), queue.get(), queue.get())


@ray.remote(num_cpus=0)
def produce(queue, numbers):
    for n in numbers:
        queue.put(n)
    return len(numbers)


@ray.remote(num_cpus=0)
def consume(queue, count):
    return [queue.get(timeout=60) for _ in range(count)]


made = [produce.remote(queue, range(10 * n, 10 * n + 5)) for n in range(3)]
print("tasks:", sorted(sum(ray.get([consume.remote(queue, 5) for _ in range(3)]), [])), ray.get(made))


@ray.remote(num_cpus=0)
def raises(queue):
    try:
        queue.get_nowait()
    except Empty:
        return "Empty in a task"


print(ray.get(raises.remote(queue)))


# ---- coroutines
async def both():
    await queue.put_async(1)
    await queue.put_async(item=2, block=False)
    for what, call in (
        ("put_async of one too many:", lambda: queue.put_async(3, block=False)),
        ("in time:", lambda: queue.put_async(3, timeout=0.1)),
        ("negative:", lambda: queue.put_async(3, timeout=-1)),
    ):
        try:
            await call()
        except (Full, ValueError) as error:
            print(what, "Full:", isinstance(error, Full))
    print("get_async:", await queue.get_async(), await queue.get_async(block=True, timeout=5))
    for what, call in (
        ("get_async of none:", lambda: queue.get_async(block=False)),
        ("in time:", lambda: queue.get_async(timeout=0.1)),
        ("negative:", lambda: queue.get_async(timeout=-1)),
    ):
        try:
            await call()
        except (Empty, ValueError) as error:
            print(what, "Empty:", isinstance(error, Empty))
    waiting = asyncio.ensure_future(queue.get_async())
    await asyncio.sleep(0.1)
    await queue.put_async("for the one that waits")
    print(await waiting, await asyncio.gather(queue.get_async(), queue.put_async(5)))


asyncio.run(both())

# ---- options and the end
named = Queue(actor_options={"name": "items", "num_cpus": 1})
named.put(1)
print("options:", ray.get_actor("items") is not None)
show("shutdown:", named.shutdown)
show("again:", named.shutdown)
for what, call in (("put", lambda: named.put(1)), ("get", named.get), ("size", named.size), ("empty", named.empty)):
    try:
        call()
    except Exception as error:
        print("after shutdown:", what, isinstance(error, (RayActorError, AttributeError, RuntimeError)))
forced = Queue()
show("by force:", lambda: forced.shutdown(force=True))
copied = Queue()
waits = consume.remote(copied, 1)
time.sleep(0.5)
copied.shutdown(force=True)
try:
    ray.get(waits, timeout=60)
except RayActorError:
    print("one that waited in it: RayActorError")
show("a text as its size:", lambda: Queue("2").put(1))

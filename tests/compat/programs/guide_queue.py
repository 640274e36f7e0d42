"""util.queue between tasks, with limits and timeouts."""

import hpc as ray
from hpc.util.queue import Empty, Full, Queue

ray.init(num_cpus=2)
queue = Queue(maxsize=3)
print(queue.maxsize, queue.empty(), queue.full(), queue.qsize(), len(queue))
for i in range(3):
    queue.put(i)
print(queue.full(), queue.qsize())
try:
    queue.put(4, block=False)
except Full as error:
    print("Full")
try:
    queue.put(4, timeout=0.1)
except Full as error:
    print("Full in time")
print([queue.get() for _ in range(3)], queue.empty())
for call in (queue.get_nowait, lambda: queue.get(timeout=0.1), lambda: queue.get(block=False)):
    try:
        call()
    except Empty:
        print("Empty")
queue.put_nowait_batch([1, 2])
print(queue.get_nowait_batch(2))
try:
    queue.put_nowait_batch([1, 2, 3, 4])
except Full as error:
    print("Full:", isinstance(error, Full))
try:
    queue.get_nowait_batch(2)
except Empty as error:
    print("Empty:", isinstance(error, Empty))


@ray.remote
def produce(queue, n):
    for i in range(n):
        queue.put(i)


@ray.remote
def consume(queue, n):
    return [queue.get() for _ in range(n)]


produce.remote(queue, 10)
print(ray.get(consume.remote(queue, 10)))
for call in (lambda: queue.get(timeout=-1), lambda: queue.put(1, timeout=-1)):
    try:
        call()
    except ValueError as error:
        print("ValueError", error)
queue.shutdown()
try:
    queue.put(1)
except Exception as error:
    print("shut down:", isinstance(error, Exception))

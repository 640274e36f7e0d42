"""Threads of the driver that submit, get, wait and share actors; executors; results put by threads of a task."""

import concurrent.futures
import queue
import threading

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
def square(x):
    return x * x


@ray.remote
class Counter:
    def __init__(self):
        self.n = 0

    def add(self, k=1):
        self.n += k
        return self.n


counter = Counter.options(num_cpus=0).remote()
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    print(list(pool.map(lambda i: ray.get(square.remote(i)), range(20))))
    sums = list(pool.map(lambda i: ray.get(counter.add.remote()), range(50)))
    print(sorted(sums) == list(range(1, 51)))
results = queue.Queue()


def consumer(refs):
    while refs:
        ready, refs = ray.wait(refs)
        for ref in ready:
            results.put(ray.get(ref))


threads = [threading.Thread(target=consumer, args=([square.remote(i) for i in range(k, k + 5)],)) for k in (0, 10)]
[t.start() for t in threads]
[t.join() for t in threads]
print(sorted(results.get() for _ in range(10)))


@ray.remote
def threaded(n):
    found = []

    def work(i):
        found.append(ray.get(square.remote(i)))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(n)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        more = list(pool.map(lambda i: ray.get(ray.put(i)), range(4)))
    return sorted(found), more


print(ray.get(threaded.remote(5)))


@ray.remote(max_concurrency=4, num_cpus=0)
class Barrier:
    def __init__(self, n):
        self.barrier = threading.Barrier(n)
        self.local = threading.local()

    def meet(self, name):
        self.local.name = name
        self.barrier.wait(60)
        return self.local.name, threading.current_thread() is threading.main_thread()


barrier = Barrier.remote(4)
met = ray.get([barrier.meet.remote(n) for n in "abcd"])
print([name for name, _ in met], {main for _, main in met})
future = square.remote(9).future()
print(future.result(30), future.done(), isinstance(future, concurrent.futures.Future))
done, rest = concurrent.futures.wait([square.remote(i).future() for i in range(4)], timeout=60)
print(sorted(f.result() for f in done), rest)
called = threading.Event()
values = []
square.remote(5).future().add_done_callback(lambda f: (values.append(f.result()), called.set()))
print(called.wait(30), values)
errors = []


def fails():
    try:
        ray.get(ray.remote(lambda: 1 / 0).remote())
    except ZeroDivisionError as error:
        errors.append(isinstance(error, ray.exceptions.RayTaskError))


thread = threading.Thread(target=fails)
thread.start()
thread.join()
print(errors)
first = threading.Thread(target=lambda: results.put(ray.get_actor("shared")))
shared = Counter.options(name="shared", num_cpus=0).remote()
first.start()
first.join()
print(ray.get(results.get().add.remote(5)))

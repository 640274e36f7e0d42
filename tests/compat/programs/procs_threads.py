"""Threads in tasks and actors, and calls of the API from them."""

import threading
from concurrent.futures import ThreadPoolExecutor

import hpc as ray

ray.init(num_cpus=2, log_to_driver=False)


@ray.remote
def square(x):
    return x * x


@ray.remote
def which():
    return threading.current_thread() is threading.main_thread(), threading.current_thread().name


@ray.remote
class Box:
    def which(self):
        return threading.current_thread() is threading.main_thread()

    def count(self):
        return threading.get_ident()


@ray.remote
def from_threads(n):
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda x: ray.get(square.remote(x)), range(n)))


@ray.remote
def error_in_thread():
    failed = []

    def work():
        try:
            ray.get(divides.remote(0))
        except ZeroDivisionError as error:
            failed.append(isinstance(error, ray.exceptions.RayTaskError))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return failed


@ray.remote
def divides(n):
    return 1 // n


@ray.remote
def puts_in_thread():
    made = []
    thread = threading.Thread(target=lambda: made.append(ray.put("from a thread")))
    thread.start()
    thread.join()
    return ray.get(made[0])


print("a task:", ray.get(which.remote()))
print("a method:", ray.get(Box.remote().which.remote()))
print("of an actor with threads:", ray.get(Box.options(max_concurrency=2).remote().which.remote()))
print(ray.get(from_threads.remote(8)))
print(ray.get(error_in_thread.remote()), ray.get(puts_in_thread.remote()))

box = Box.remote()
print("one thread:", len({ray.get(box.count.remote()) for _ in range(5)}))

results = []
lock = threading.Lock()


def work(x):
    value = ray.get(square.remote(x))
    with lock:
        results.append(value)


threads = [threading.Thread(target=work, args=(x,)) for x in range(10)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("from the driver's threads:", sorted(results))


@ray.remote
def leaves_a_thread():
    event = threading.Event()
    threading.Thread(target=event.wait, args=(60,), daemon=True).start()
    return "returned while a thread runs"


print(ray.get(leaves_a_thread.remote()), ray.get(square.remote(3)))


@ray.remote
def raises_in_a_thread():
    thread = threading.Thread(target=lambda: 1 // 0)
    thread.start()
    thread.join()
    return "an error in a thread of its own is no error of the task"


print(ray.get(raises_in_a_thread.remote()))

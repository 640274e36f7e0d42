"""Python's multiprocessing in tasks and actors, with functions of a module."""

import os

with open("helpers_of_it.py", "w") as file:
    file.write(
        "import os, sys\n"
        "def square(x):\n    return x * x\n"
        "def leave(code):\n    sys.exit(code)\n"
        "def raises():\n    raise ValueError('in a child')\n"
        "def put(queue, n):\n    queue.put(('from the child', n))\n"
        "def add(value, n):\n    with value.get_lock():\n        value.value += n\n"
    )

import hpc as ray

ray.init(num_cpus=2, log_to_driver=False)


@ray.remote
def pool(method):
    import multiprocessing

    import helpers_of_it

    with multiprocessing.get_context(method).Pool(2) as made:
        return made.map(helpers_of_it.square, range(5))


@ray.remote
def code(method, value):
    import multiprocessing

    import helpers_of_it

    child = multiprocessing.get_context(method).Process(target=helpers_of_it.leave, args=(value,))
    child.start()
    child.join()
    return child.exitcode


@ray.remote
def others(method):
    import multiprocessing

    import helpers_of_it

    context = multiprocessing.get_context(method)
    failing = context.Process(target=helpers_of_it.raises)
    failing.start()
    failing.join()
    queue = context.Queue()
    child = context.Process(target=helpers_of_it.put, args=(queue, 7))
    child.start()
    got = queue.get(timeout=60)
    child.join()
    value = context.Value("i", 0)
    children = [context.Process(target=helpers_of_it.add, args=(value, n)) for n in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    return failing.exitcode, got, value.value


@ray.remote
def executor():
    from concurrent.futures import ProcessPoolExecutor

    import helpers_of_it

    with ProcessPoolExecutor(2) as made:
        return list(made.map(helpers_of_it.square, range(4)))


for method in ("fork", "spawn"):
    print(method, ray.get(pool.remote(method)))
    print(method, [ray.get(code.remote(method, value)) for value in (0, 7, None, "text")])
    print(method, ray.get(others.remote(method)))
print(ray.get(executor.remote()))


@ray.remote
class Box:
    def pool(self):
        from multiprocessing.pool import ThreadPool

        with ThreadPool(3) as made:
            return made.map(lambda n: n + 1, range(3))

    def terminate(self):
        import multiprocessing
        import time

        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        child.start()
        child.terminate()
        child.join()
        return child.exitcode, os.getpid() == os.getpid()


box = Box.remote()
print(ray.get(box.pool.remote()), ray.get(box.terminate.remote()))

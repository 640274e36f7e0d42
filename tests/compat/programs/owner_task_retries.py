"""max_retries of tasks that crash, and exceptions that are not tried again."""

import os

import hpc as ray

ray.init(num_cpus=2, log_to_driver=False)
errors = ray.exceptions


def attempt(path):
    with open(path, "a") as file:
        file.write(".")
    return os.path.getsize(path)


@ray.remote
def crash(path, times):
    if attempt(path) <= times:
        os._exit(1)
    return os.path.getsize(path)


@ray.remote
def fail(path, times):
    if attempt(path) <= times:
        raise ValueError("not yet")
    return os.path.getsize(path)


def show(what, task, *args):
    path = os.path.abspath(what.replace(" ", "_"))
    try:
        print(what, ray.get(task.remote(path, *args), timeout=60), end=" ")
    except Exception as error:
        print(what, type(error).__name__, isinstance(error, errors.RayTaskError), end=" ")
    print("attempts", os.path.getsize(path))


show("crash once", crash, 1)
show("crash never retried", crash.options(max_retries=0), 1)
show("crash more than retries", crash.options(max_retries=1), 5)
show("crash without end of retries", crash.options(max_retries=-1), 4)
show("exception not retried", fail, 1)
show("another exception", fail.options(retry_exceptions=[KeyError]), 1)

"""A function that each worker process calls before its first task."""

import gc
import logging
import os

import hpc as ray

CALLS = []
LEVEL = logging.DEBUG


def prepare():
    CALLS.append(os.getpid())
    logging.getLogger("program").setLevel(LEVEL)
    os.environ["PREPARED"] = "yes"
    return "what it returns is nobody's"


@ray.remote
def seen():
    return os.environ.get("PREPARED"), logging.getLogger("program").level, gc.isenabled()


@ray.remote
class Actor:
    def __init__(self):
        self.at_begin = os.environ.get("PREPARED")

    def seen(self):
        return self.at_begin, logging.getLogger("program").level, gc.isenabled()


@ray.remote
def nested():
    return ray.get(seen.remote())


def attempt(what, do):
    try:
        print(what, "gave", do())
    except Exception as error:
        print(what, "raised", type(error).__name__)


def session(what, hook, do):
    print(what)
    try:
        ray.init(num_cpus=2, runtime_env={"worker_process_setup_hook": hook})
        do()
    except Exception as error:
        print("  init raised", type(error).__name__)
    ray.shutdown()


def all_of_them():
    attempt("  task", lambda: ray.get(seen.remote()))
    attempt("  task again", lambda: ray.get(seen.remote()))
    attempt("  actor", lambda: ray.get(Actor.remote().seen.remote()))
    attempt("  nested", lambda: ray.get(nested.remote()))
    other = seen.options(runtime_env={"env_vars": {"MORE": "1"}})
    attempt("  task with another environment", lambda: ray.get(other.remote()))
    attempt("  the driver", lambda: (os.environ.get("PREPARED"), len(CALLS)))


def first():
    attempt("  task", lambda: ray.get(seen.remote()))


session("a function:", prepare, all_of_them)
session("a name:", "gc.disable", all_of_them)
session("none:", None, first)
session("a number:", 5, first)
session("a function that does not pickle:", lambda generator=(n for n in ()): generator, first)

"""What else an error brings along: notes, its arguments, and the errors behind it."""

import hpc as ray

ray.init(num_cpus=2)


@ray.remote
def noted():
    error = ValueError("v")
    error.__notes__ = ["a note", "another"]
    raise error


@ray.remote
def with_from():
    try:
        {}["k"]
    except KeyError as error:
        raise OSError(2, "no") from error


@ray.remote
def plain():
    raise KeyError("k")


@ray.remote
def in_a_circle():
    error, other = ValueError("v"), KeyError("k")
    error.__cause__, other.__cause__ = other, error
    raise error


@ray.remote
def from_what_cannot_be_pickled():
    import threading

    cause = KeyError("k")
    cause.lock = threading.Lock()
    raise ValueError("v") from cause


def show(what, function):
    try:
        ray.get(function.remote())
    except Exception as error:
        print(what, type(error).__name__, getattr(error, "__notes__", None), type(error.cause).__name__)
        print(what, "cause", type(error.__cause__).__name__, type(error.cause.__cause__).__name__)


show("notes:", noted)
show("from:", with_from)
show("plain:", plain)
show("circle:", in_a_circle)
show("not pickled:", from_what_cannot_be_pickled)
try:
    ray.get(plain.remote())
except KeyError as error:
    print("args", error.args, "and of the cause", error.cause.args)

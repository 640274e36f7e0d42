"""Standard streams in tasks: what they are, and output that is captured."""

import contextlib
import io
import os
import sys

import hpc as ray

ray.init(num_cpus=2, log_to_driver=False)


@ray.remote
def streams():
    return sys.stdin.read(), sys.stdout.isatty(), sys.stdout.encoding.lower(), sys.stdout.writable(), os.isatty(1)


@ray.remote
def captured():
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        print("kept")
        print("kept too", file=sys.stderr)
    return out.getvalue(), err.getvalue()


@ray.remote
def asks():
    return input("a question: ")


@ray.remote
def closes():
    stream = sys.stdout
    sys.stdout = io.StringIO()
    try:
        print("nowhere")
        return sys.stdout.getvalue()
    finally:
        sys.stdout = stream


@ray.remote
def descriptors():
    return sys.stdout.fileno(), sys.stderr.fileno(), os.path.exists("/proc/self/fd/0")


print(ray.get(streams.remote()))
print(ray.get(captured.remote()))
try:
    ray.get(asks.remote())
except EOFError as error:
    print("input:", isinstance(error, ray.exceptions.RayTaskError))
print(repr(ray.get(closes.remote())))
print(ray.get(descriptors.remote()))


@ray.remote
def recursion():
    return sys.getrecursionlimit(), sys.flags.optimize


print(ray.get(recursion.remote()) == (sys.getrecursionlimit(), sys.flags.optimize))

"""cancel() of tasks in each state."""

import os
import tempfile
import time

import hpc as ray

ray.init(num_cpus=4)


def show(what, refs):
    out = []
    for ref in refs:
        try:
            out.append(ray.get(ref, timeout=20))
        except ray.exceptions.TaskCancelledError:
            out.append("cancelled")
        except Exception as error:
            out.append([kind.__name__ for kind in (ValueError, RuntimeError, TypeError) if isinstance(error, kind)])
    print(what, out)


folder = tempfile.mkdtemp()


def begun(name):
    while not os.path.exists(os.path.join(folder, name)):
        time.sleep(0.01)
    time.sleep(0.1)


def begin(name):
    open(os.path.join(folder, name), "w").close()


@ray.remote
def loops(name, caught=()):
    begin(name)
    for _ in range(200):
        try:
            time.sleep(0.05)
        except caught:
            return "caught it"


def cancel(what, ref, name, **options):
    begun(name)
    print(what, ray.cancel(ref, **options))
    show(what, [ref])


cancel("plain:", loops.remote("a"), "a")
cancel("catches Exception:", loops.remote("b", Exception), "b")
cancel("catches KeyboardInterrupt:", loops.remote("c", KeyboardInterrupt), "c")
cancel("by force:", loops.remote("d", KeyboardInterrupt), "d", force=True)


@ray.remote
def flag(name):
    begin(name)
    before = ray.get_runtime_context().is_canceled()
    for _ in range(200):
        try:
            time.sleep(0.05)
        except KeyboardInterrupt:
            return before, ray.get_runtime_context().is_canceled()


cancel("asks:", flag.remote("e"), "e")


@ray.remote
def identity(x):
    return x


slow = loops.remote("f")
waits = identity.remote(slow)
begun("f")
ray.cancel(waits)
show("waits for its argument:", [waits])
ray.cancel(slow, force=True)
show("what it waited for:", [slow])
done = identity.remote(1)
ray.get(done)
print(ray.cancel(done), ray.cancel(done, force=True))
show("finished:", [done])
for wrong in (5, [done], None):
    try:
        ray.cancel(wrong)
    except TypeError as error:
        print(type(error).__name__)
try:
    ray.get_runtime_context().is_canceled()
except RuntimeError:
    print("a driver has no such flag")

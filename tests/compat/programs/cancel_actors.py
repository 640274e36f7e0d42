"""cancel() of actors' calls."""

import asyncio
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
class Plain:
    def work(self, name):
        begin(name)
        for _ in range(200):
            time.sleep(0.02)
            if ray.get_runtime_context().is_canceled():
                return "it saw that"
        return "worked"

    def fails(self, name):
        begin(name)
        while not ray.get_runtime_context().is_canceled():
            time.sleep(0.02)
        raise ValueError("in the end")

    def lives(self):
        return "lives"


@ray.remote
class Coroutines:
    def __init__(self):
        self.seen = []

    async def work(self, name):
        begin(name)
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            self.seen.append("CancelledError")
            raise

    async def refuses(self, name):
        begin(name)
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            return "nevertheless"

    async def what(self):
        return self.seen


def cancel(what, ref, name):
    begun(name)
    try:
        ray.cancel(ref, force=True)
    except ValueError:
        print("not by force")
    ray.cancel(ref)
    show(what, [ref])


for threads in (1, 3):
    actor = Plain.options(max_concurrency=threads).remote()
    cancel("a method:", actor.work.remote(f"a{threads}"), f"a{threads}")
    cancel("one that raises:", actor.fails.remote(f"b{threads}"), f"b{threads}")
    print(ray.get(actor.lives.remote()))
actor = Coroutines.remote()
cancel("a coroutine:", actor.work.remote("c"), "c")
cancel("one that refuses:", actor.refuses.remote("d"), "d")
print(ray.get(actor.what.remote()))


@ray.remote
class Holder:
    def begin(self, actor, name):
        return [actor.work.remote(name)]

    def cancel(self, refs):
        ray.cancel(refs[0])


holder = Holder.remote()
[theirs] = ray.get(holder.begin.remote(actor, "e"))
begun("e")
ray.cancel(theirs)
show("another's:", [theirs])
mine = actor.work.remote("f")
begun("f")
ray.get(holder.cancel.remote([mine]))
show("by another:", [mine])

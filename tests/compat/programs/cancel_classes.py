"""Of which class the error is that a cancelled task or call gives."""

import asyncio
import os
import tempfile
import time

import hpc as ray

ray.init(num_cpus=4, log_to_driver=False)
E = ray.exceptions
folder = tempfile.mkdtemp()


def begun(name):
    while not os.path.exists(os.path.join(folder, name)):
        time.sleep(0.01)
    time.sleep(0.1)


def begin(name):
    open(os.path.join(folder, name), "w").close()


def show(what, ref):
    try:
        print(what, ray.get(ref, timeout=30))
    except E.TaskCancelledError as error:
        print(what, type(error).__name__, isinstance(error, E.RayTaskError), isinstance(error, E.RayError))
        if isinstance(error, E.RayTaskError):
            print("  cause:", type(error.cause).__name__, "was cancelled" in str(error))


def cancel(what, ref, name, **options):
    begun(name)
    ray.cancel(ref, **options)
    show(what, ref)
    return ref


@ray.remote
def loops(name):
    begin(name)
    for _ in range(200):
        time.sleep(0.05)


@ray.remote
def identity(x):
    return x


@ray.remote
def waits(name):
    return ray.get(loops.remote(name))


@ray.remote
def cancels(name):
    ref = loops.remote(name)
    begun(name)
    ray.cancel(ref)
    return ray.get(ref)


@ray.remote(num_returns=2)
def two(name):
    begin(name)
    time.sleep(10)


@ray.remote(num_cpus=1000)
def never():
    pass


@ray.remote
def interrupts_itself():
    raise KeyboardInterrupt


@ray.remote
def raises_it_itself():
    raise E.TaskCancelledError


ref = cancel("a task:", loops.remote("a"), "a")
show("one that needs it:", identity.remote(ref))
cancel("by force:", loops.remote("b"), "b", force=True)
cancel("while it waits:", waits.remote("c"), "c")
show("one that cancels:", cancels.remote("d"))
first, second = two.remote("e")
cancel("the second value:", second, "e")
show("the first value:", first)
ref = never.remote()
ray.cancel(ref)
show("not begun:", ref)
show("KeyboardInterrupt of its own:", interrupts_itself.remote())
show("TaskCancelledError of its own:", raises_it_itself.remote())


@ray.remote
class Coroutines:
    async def sleep(self, name):
        begin(name)
        await asyncio.sleep(20)

    async def other(self, name):
        begin(name)
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            raise ValueError("instead") from None

    async def own(self):
        raise asyncio.CancelledError


@ray.remote
class Methods:
    def polls(self, name):
        begin(name)
        while not ray.get_runtime_context().is_canceled():
            time.sleep(0.05)

    def waits(self, name):
        return ray.get(loops.remote(name))


actor = Coroutines.remote()
cancel("a coroutine:", actor.sleep.remote("f"), "f")
cancel("one that raises something else:", actor.other.remote("g"), "g")
show("CancelledError of its own:", actor.own.remote())
for threads in (1, 2):
    actor = Methods.options(max_concurrency=threads).remote()
    cancel("a method:", actor.polls.remote(f"h{threads}"), f"h{threads}")
actor = Methods.remote()
cancel("a method that waits:", actor.waits.remote("i"), "i")


async def wait_for(ref):
    return await ref


ref = loops.remote("j")
begun("j")
ray.cancel(ref)
for what, get in (("awaited:", lambda: asyncio.run(wait_for(ref))), ("as a future:", lambda: ref.future().result())):
    try:
        print(what, get())
    except E.TaskCancelledError as error:
        print(what, type(error).__name__)

"""What each step of a task costs: CPU time of driver and worker, per task or call.

    python steps.py        one line ``@bench {json}``: program -> step -> µs for each task or call

The programs: 1,000 tasks, or calls of an actor, and then all results, on one worker; 300 one by one. The steps that
handle whole frames are timed where they are called; what is left of a thread's CPU time is its own step. The least of
many turns is taken: what others on the machine do to it is not a property of the step. Nobody spins (HPC_SPIN_US is 0).
"""

import functools
import json
import os
import time
from collections.abc import Callable
from typing import Any

os.environ["HPC_SPIN_US"] = "0"

import hpc

ASYNC, SYNC, TURNS = 1000, 300, 40
#: (module, attribute or class.method, name of the step)
FRAMES = [
    ("hpc.core.owner.shell.sockets", "encode_frame", "encode"),
    ("hpc.core.net.stream", "Stream.send", "write"),
    ("hpc.core.net.stream", "Stream.receive", "read"),
    ("hpc.core.owner.shell.client", "decode_body", "decode"),
    ("hpc.core.owner.machine", "OwnerMachine.handle", "take"),
]


class Watch:
    """Adds up the CPU time of the frame steps of this thread, and of all it does."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self.total = 0.0

    def install(self) -> None:
        """Have the steps of this process timed."""
        import importlib

        for module, path, step in FRAMES:
            where: Any = importlib.import_module(module)
            *classes, name = path.split(".")
            for one in classes:
                where = getattr(where, one)
            setattr(where, name, self._timed(getattr(where, name), step))

    def _timed(self, inner: Callable[..., Any], step: str) -> Callable[..., Any]:
        import threading

        main, clock = threading.main_thread().ident, time.thread_time

        @functools.wraps(inner)
        def timed(*args: Any) -> Any:
            if threading.get_ident() != main:
                return inner(*args)
            start = clock()
            try:
                return inner(*args)
            finally:
                self.spent[step] = self.spent.get(step, 0.0) + clock() - start

        return timed

    def begin(self) -> None:
        """From now on."""
        self.spent.clear()
        self.total = time.thread_time()

    def end(self) -> dict[str, float]:
        """The time of each step since then, in seconds; "own" is the rest."""
        total = time.thread_time() - self.total
        return {**self.spent, "own": max(0.0, total - sum(self.spent.values()))}


def switch(on: bool) -> dict[str, float]:
    """Begin, or end, in the worker where this runs."""
    import builtins

    watch = getattr(builtins, "hpc_watch", None)
    if watch is None:
        watch = builtins.hpc_watch = Watch()  # type: ignore[attr-defined]
        watch.install()
    if on:
        watch.begin()
        return {}
    found: dict[str, float] = watch.end()
    return found


@hpc.remote
def noop() -> bytes:
    return b"ok"


@hpc.remote
class Actor:
    def small_value(self) -> bytes:
        return b"ok"

    def switch(self, on: bool) -> dict[str, float]:
        return switch(on)


def turn(
    watch: Watch, call: Callable[[], Any], ask: Callable[[bool], dict[str, float]], sync: bool
) -> dict[str, float]:
    """One turn of a program: seconds for each step of all its tasks."""
    ask(True)
    start = time.perf_counter()
    watch.begin()
    if sync:
        for _ in range(SYNC):
            hpc.get(call())
        driver = watch.end()
    else:
        refs = [call() for _ in range(ASYNC)]
        submit = watch.end()
        watch.begin()
        hpc.get(refs)
        get = watch.end()
        driver = {step: submit.get(step, 0.0) + get.get(step, 0.0) for step in {*submit, *get} - {"own"}}
        driver |= {"remote": submit["own"], "get": get["own"]}
    took = time.perf_counter() - start
    worker = ask(False)
    found = {f"driver: {step}": t for step, t in driver.items()} | {f"worker: {step}": t for step, t in worker.items()}
    return found | {"took": took}


def measure(
    watch: Watch, call: Callable[[], Any], ask: Callable[[bool], dict[str, float]], sync: bool
) -> dict[str, float]:
    """The least of each step over many turns, in µs for each task."""
    count = SYNC if sync else ASYNC
    turns = [turn(watch, call, ask, sync) for _ in range(TURNS)]
    steps = dict.fromkeys(step for one in turns[1:] for step in one)
    return {step: min(one.get(step, 0.0) for one in turns[1:]) / count * 1e6 for step in steps}


def main() -> None:
    hpc.init(address="local", num_cpus=1, log_to_driver=False)
    try:
        watch = Watch()
        watch.install()
        remote_switch = hpc.remote(switch)
        actor = Actor.options(num_cpus=0).remote()
        hpc.get([noop.remote() for _ in range(ASYNC)] + [actor.small_value.remote() for _ in range(ASYNC)])
        found = {}
        for sync in (False, True):
            how = "one by one" if sync else "many at a time"
            found[f"tasks, {how}"] = measure(watch, noop.remote, lambda on: hpc.get(remote_switch.remote(on)), sync)
            found[f"calls, {how}"] = measure(
                watch, lambda: actor.small_value.remote(), lambda on: hpc.get(actor.switch.remote(on)), sync
            )
        print("@bench " + json.dumps(found), flush=True)
    finally:
        hpc.shutdown()


if __name__ == "__main__":
    main()

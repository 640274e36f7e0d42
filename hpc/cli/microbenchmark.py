"""`hpc microbenchmark`: the operations of Ray's own microbenchmark, under its names, on this machine.

Rates per second: the median and the spread of several rounds. bench/ in the repository runs the same beside Ray.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from hpc.settings.errors import CliError

USAGE = "hpc microbenchmark [WORD ...]     those whose names contain one of the words; without words, all"
ROUNDS = 4
SECONDS = 1.0
Work = Callable[[], int]


def _works(hpc: Any) -> dict[str, Callable[[], Work]]:
    """Name -> what prepares it and gives the work; the work says how many operations it did."""
    import numpy as np

    class Plain:
        def value(self) -> bytes:
            return b"ok"

    class Coroutines:
        async def value(self) -> bytes:
            return b"ok"

    small: Any = hpc.remote(lambda: b"ok")
    Actor: Any = hpc.remote(num_cpus=0)(Plain)
    AsyncActor: Any = hpc.remote(num_cpus=0)(Coroutines)

    def get_small() -> Work:
        ref = hpc.put(0)
        return lambda: len([hpc.get(ref) for _ in range(1000)])

    def put_large() -> Work:
        array = np.zeros(100 << 20, np.uint8)
        return lambda: 1 if hpc.put(array) else 0

    def wait_1k() -> Work:
        def work() -> int:
            left = [small.remote() for _ in range(1000)]
            while left:
                _, left = hpc.wait(left)
            return 1

        return work

    def calls(kind: Any, many: int) -> Work:
        actor = kind.remote()
        hpc.get(actor.value.remote())
        if many == 1:
            return lambda: len([hpc.get(actor.value.remote()) for _ in range(200)])
        return lambda: len(hpc.get([actor.value.remote() for _ in range(many)]))

    def n_to_n() -> Work:
        actors = [Actor.remote() for _ in range(4)]

        def call(many: list[Any]) -> int:
            return len(hpc.get([many[i % len(many)].value.remote() for i in range(2500)]))

        work: Any = hpc.remote(call)
        return lambda: sum(hpc.get([work.remote(actors) for _ in range(2)]))

    def create() -> Work:
        def work() -> int:
            return len(hpc.get([a.value.remote() for a in [Actor.remote() for _ in range(10)]]))

        return work

    def groups() -> Work:
        def work() -> int:
            for _ in range(20):
                group = hpc.util.placement_group([{"CPU": 0.01}])
                hpc.get(group.ready())
                hpc.util.remove_placement_group(group)
            return 20

        return work

    return {
        "single client get calls": get_small,
        "single client put calls": lambda: lambda: len([hpc.put(0) for _ in range(1000)]),
        "single client put gigabytes (100 MB each)": put_large,
        "single client tasks and get batch": lambda: lambda: len(hpc.get([small.remote() for _ in range(1000)])),
        "single client tasks sync": lambda: lambda: len([hpc.get(small.remote()) for _ in range(200)]),
        "single client tasks async": lambda: lambda: len(hpc.get([small.remote() for _ in range(5000)])),
        "single client wait 1k refs": wait_1k,
        "1:1 actor calls sync": lambda: calls(Actor, 1),
        "1:1 actor calls async": lambda: calls(Actor, 5000),
        "1:1 async-actor calls sync": lambda: calls(AsyncActor, 1),
        "1:1 async-actor calls async": lambda: calls(AsyncActor, 2000),
        "n:n actor calls async": n_to_n,
        "actors created": create,
        "placement group create/removal": groups,
    }


def run(words: list[str]) -> int:
    """`hpc microbenchmark [NAME ...]`: those whose names contain one of the words; returns the exit code."""
    import hpc
    import hpc.util

    if not hpc.is_initialized():
        hpc.init(address="local", log_to_driver=False)
    try:
        works = _works(hpc)
        chosen = [n for n in works if not words[1:] or any(word in n for word in words[1:])]
        if not chosen:
            raise CliError("USAGE", f"no benchmark is called so; there are: {'; '.join(works)}")
        for name in chosen:
            rates = _measure(works[name]())
            spread = f"{min(rates):,.1f} to {max(rates):,.1f}"
            print(f"{name:<44} {statistics.median(rates):>14,.1f} per second   ({spread})")
            sys.stdout.flush()
    finally:
        hpc.shutdown()
    return 0


def _measure(work: Work) -> list[float]:
    work()
    rates = []
    for _ in range(ROUNDS):
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < SECONDS:
            count += work()
        rates.append(count / (time.perf_counter() - start))
    return rates

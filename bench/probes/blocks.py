"""Blocks of data between tasks: results and items of 16 kB to 32 MB, as arrays and as tables, beside a bare task.

    python blocks.py hpc|ray SIZES BYTES ROUNDS

SIZES: in bytes, with commas. BYTES: about so many are moved for each figure. Prints ``@bench {...}`` with microseconds
for each block (the least of ROUNDS, which a busy machine disturbs least), and of a copy of as many bytes in memory that
was used before. Figures of results are beyond what a task costs that returns None.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

CPUS = 2
COLUMNS = 8
#: How many tasks are outstanding where the rate counts; how many blocks are moved at least, and at most.
OUTSTANDING = 8
FEWEST, MOST = 10, 400
BARE = 1000


def array_of(size: int) -> Any:
    return np.ones(size, np.uint8)


def table_of(size: int) -> Any:
    return pa.table({f"c{i}": np.arange(size // 8 // COLUMNS, dtype=float) for i in range(COLUMNS)})


MADE: dict[Any, Any] = {}


def made(kind: str, size: int) -> Any:
    """A value of this size, made once in each process."""
    if (kind, size) not in MADE:
        MADE[kind, size] = array_of(size) if kind == "array" else table_of(size)
    return MADE[kind, size]


def micros(count: int, rounds: int, run: Callable[[int], None]) -> float:
    """Microseconds for each of ``count``, the least of some rounds."""
    took = []
    run(min(count, 2 * OUTSTANDING))
    for _ in range(rounds):
        began = time.perf_counter()
        run(count)
        took.append(time.perf_counter() - began)
    return min(took) / count * 1e6


class Moves:
    """What is measured, under one library."""

    def __init__(self, lib: Any) -> None:
        self.lib = lib
        task = lib.remote(num_cpus=CPUS)  # one worker: no second one is forked meanwhile
        self.nothing = task(lambda: None)
        self.give = task(made)
        self.add = task(lambda block: block + np.uint8(1))
        self.size = task(lambda block: block.nbytes)

        def items(kind: str, size: int, count: int) -> Any:
            block = made(kind, size)
            for index in range(count):
                yield block
                yield {"rows": index, "bytes": size}

        self.items = lib.remote(num_cpus=CPUS, num_returns="streaming")(items)

    def waited(self, submit: Callable[[], Any]) -> Callable[[int], None]:
        """Some tasks at a time, whose values stay where they are."""

        def run(count: int) -> None:
            refs: list[Any] = []
            for _ in range(count):
                refs.append(submit())
                if len(refs) == OUTSTANDING:
                    self.lib.wait([refs.pop(0)], fetch_local=False)
            self.lib.wait(refs, num_returns=len(refs), fetch_local=False)

        return run

    def gotten(self, submit: Callable[[], Any]) -> Callable[[int], None]:
        """One task at a time, whose value is read."""

        def run(count: int) -> None:
            for _ in range(count):
                self.lib.get(submit())

        return run

    def streamed(self, kind: str, size: int) -> Callable[[int], None]:
        """Blocks of a generator with what is said of each, in pairs; the blocks stay where they are."""

        def run(count: int) -> None:
            pairs = iter(self.items.remote(kind, size, count))
            for _ in pairs:
                self.lib.get(next(pairs))

        return run


def copied(size: int) -> Callable[[int], None]:
    source, target = array_of(size), array_of(size)

    def run(count: int) -> None:
        for _ in range(count):
            np.copyto(target, source)

    return run


def main() -> None:
    who, sizes, total, rounds = sys.argv[1], sys.argv[2].split(","), float(sys.argv[3]), int(sys.argv[4])
    lib = importlib.import_module(who)
    more = {"include_dashboard": False, "log_to_driver": False} if who == "ray" else {}
    lib.init(address="local", num_cpus=CPUS, object_store_memory=1 << 30, **more)
    moves = Moves(lib)
    moves.waited(moves.nothing.remote)(BARE // 5)
    #: What is measured, each with what it is beyond: the least of some looks at bare tasks, between all others.
    took: dict[str, tuple[float, list[float]]] = {}
    bare: list[float] = []
    alone: list[float] = []
    nothing = [0.0]
    for size in map(int, sizes):
        count = int(max(FEWEST, min(MOST, total / size)))
        kept = lib.put(array_of(size))
        bare.append(micros(BARE, rounds, moves.waited(moves.nothing.remote)))
        alone.append(micros(BARE // 4, rounds, moves.gotten(moves.nothing.remote)))
        runs = {
            "array": (bare, moves.waited(lambda size=size: moves.give.remote("array", size))),
            "table": (bare, moves.waited(lambda size=size: moves.give.remote("table", size))),
            "items": (nothing, moves.streamed("array", size)),
            "tables": (nothing, moves.streamed("table", size)),
            "chain": (bare, moves.waited(lambda kept=kept: moves.add.remote(kept))),
            "read": (alone, moves.gotten(lambda kept=kept: moves.size.remote(kept))),
            "get": (alone, moves.gotten(lambda size=size: moves.give.remote("array", size))),
            "copy": (nothing, copied(size)),
        }
        for name, (beside, run) in runs.items():
            took[f"{name} {size}"] = micros(count, rounds, run), beside
        del kept
    lib.shutdown()
    found = {"bare": min(bare), "alone": min(alone)}
    found.update({name: max(0.0, us - min(beside)) for name, (us, beside) in took.items()})
    print("@bench " + json.dumps(found))


if __name__ == "__main__":
    main()

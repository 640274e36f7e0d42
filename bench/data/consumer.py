"""What a consumer may do to a run: ``python -m bench.data.consumer``.

* It stops for 30 s: the bytes in the object store stay as they are, within the run's part of it. All processes of the
  session together use less than 2 % of a core. Then every row comes.
* A rank of `streaming_split` leaves early: the others get all other rows.
* ``take(1)`` of a long dataset: within 0.1 s no function of a user's is called any more.
* Two datasets at once share that part of the store, spill nothing, and both end. So do ranks that each read a whole
  dataset by themselves.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import hpc
from bench.probes.data.measuring import cpu_s
from hpc.core.ids import raylet_of
from hpc.state.gather import ask

MIB = 1 << 20
STORE = 256 * MIB
#: A run may use one half of the store.
PART = STORE // 2
#: Rows of 1 MiB.
ROW = MIB // 8
CPU_SHARE = 0.02
CANCEL_S = 0.1


def store() -> dict[str, int]:
    """What the raylet says of its store."""
    hpc.api.connection.ensure_client().flush()
    found: dict[str, int]
    (found,) = ask([raylet_of(1)], "store_totals", timeout_s=30.0).rows
    return found


@contextmanager
def store_peak() -> Iterator[list[int]]:
    """The most bytes in the store while the block runs."""
    peak, end = [0], threading.Event()

    def look() -> None:
        while not end.wait(0.05):
            peak[0] = max(peak[0], store()["used_bytes"])

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        end.set()
        thread.join()


def numbers(rows: int) -> Any:
    """Rows of 1 MiB, which a function makes."""
    return hpc.data.range(rows, override_num_blocks=rows // 4).map_batches(widened, batch_size=1)


def widened(batch: dict[str, Any]) -> dict[str, Any]:
    return {"id": batch["id"], "data": np.broadcast_to(batch["id"][:, None], (len(batch["id"]), ROW)).copy()}


def stopped(seconds: float, rows: int) -> tuple[list[str], str]:
    """The consumer stops."""
    wrong = []
    batches = iter(numbers(rows).iter_batches(batch_size=1))
    seen = [int(next(batches)["id"][0])]
    time.sleep(3.0)  # until all that may be made ahead is there
    cpu, began, used = cpu_s(), time.monotonic(), []
    while time.monotonic() - began < seconds:
        used.append(store()["used_bytes"])
        time.sleep(seconds / 10)
    share = (cpu_s() - cpu) / (time.monotonic() - began)
    seen += [int(batch["id"][0]) for batch in batches]
    if max(used) != min(used):
        wrong.append(f"the bytes in the store went from {min(used):,} to {max(used):,}")
    if max(used) > PART + 8 * MIB:
        wrong.append(f"{max(used) // MIB} MiB were in the store, and {PART // MIB} were allowed")
    if share > CPU_SHARE:
        wrong.append(f"{share:.2%} of a core were used")
    if seen != list(range(rows)):
        wrong.append(f"{len(set(seen))} of {rows} rows came")
    line = f"stopped for {seconds:.0f} s: {max(used) // MIB} MiB in the store, {share:.2%} of a core, {len(seen)} rows"
    return wrong, line


@hpc.remote(num_cpus=0)
def count_some(shard: Any, most: int) -> int:
    """A rank: the rows that it has taken, so many at most."""
    return sum(len(batch["id"]) for batch in itertools.islice(shard.iter_batches(batch_size=1), most))


def leaver(rows: int) -> tuple[list[str], str]:
    """One of four ranks leaves."""
    first, *others = numbers(rows).streaming_split(4)
    took, *counts = hpc.get(
        [count_some.remote(first, 3), *(count_some.remote(one, rows) for one in others)], timeout=120
    )
    # What the leaver had asked for ahead is lost with it.
    wrong = [] if took == 3 and sum(counts) >= rows - 3 - AHEAD_ROWS else [f"the others got {counts} of {rows} rows"]
    return wrong, f"a rank that left after {took} rows: the others got {sum(counts)} of {rows}"


#: A rank has asked for so many pieces ahead, of so many rows.
AHEAD_ROWS = 3 * 4 * 4


class Slow:
    """Writes down when it was called."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        time.sleep(0.01)
        Path(self.folder, str(os.getpid())).write_text(repr(time.monotonic()))
        return row


def first_row() -> tuple[list[str], str]:
    """``take(1)``."""
    with tempfile.TemporaryDirectory() as folder:
        dataset = hpc.data.range(100_000, override_num_blocks=200).map(Slow(folder)).limit(1_000_000)
        rows = dataset.take(1)
        ended = time.monotonic()
        time.sleep(1.0)
        last = max(float(path.read_text()) for path in Path(folder).iterdir())
    late = max(0.0, last - ended)
    wrong = [] if rows and late <= CANCEL_S else [f"{late:.2f} s after take(1) a function was called"]
    return wrong, f"take(1): the last call of the function was {late:.3f} s after it"


def two(rows: int) -> tuple[list[str], str]:
    """Two datasets in turns."""
    before = store()["spilled_objects"]
    with store_peak() as peak:
        both = [iter(numbers(rows).iter_batches(batch_size=1)) for _ in range(2)]
        counts = [0, 0]
        for batches in itertools.zip_longest(*both):
            counts = [count + (batch is not None) for count, batch in zip(counts, batches)]
    wrong = []
    if counts != [rows, rows]:
        wrong.append(f"{counts} of {rows} rows came")
    spilled = store()["spilled_objects"] - before
    if spilled or peak[0] > PART + 32 * MIB:
        wrong.append(f"{peak[0] // MIB} MiB in the store, {spilled} objects spilled")
    return wrong, f"two at once: {counts} rows, at most {peak[0] // MIB} MiB in the store, {spilled} objects spilled"


@hpc.remote(num_cpus=0)
def count_all(dataset: Any) -> int:
    """A slow reader of all rows: how many there were."""
    count = 0
    for batch in dataset.iter_batches(batch_size=1):
        count += len(batch["id"])
        time.sleep(0.005)
    return count


def whole(ranks: int, rows: int) -> tuple[list[str], str]:
    """Each of some processes reads a whole dataset by itself."""
    before = store()["spilled_objects"]
    with store_peak() as peak:
        counts = hpc.get([count_all.remote(numbers(rows)) for _ in range(ranks)], timeout=240)
    spilled = store()["spilled_objects"] - before
    wrong = []
    if counts != [rows] * ranks:
        wrong.append(f"{counts} of {rows} rows came")
    if spilled or peak[0] > STORE:
        wrong.append(f"{peak[0] // MIB} of {STORE // MIB} MiB in the store, {spilled} objects spilled")
    line = f"{ranks} processes read all: {counts} rows, at most {peak[0] // MIB} MiB in the store, {spilled} spilled"
    return wrong, line


def consumer(seconds: float, scale: float = 1.0, say: Callable[[str], None] = print) -> list[str]:
    """All checks in one session; what is wrong."""
    wrong: list[str] = []
    hpc.init(address="local", num_cpus=2, object_store_memory=STORE)
    rows = int(1000 * scale)
    try:
        numbers(8).materialize()  # workers are there, and have imported what they need
        for check in (
            lambda: stopped(seconds, rows),
            lambda: leaver(rows),
            first_row,
            lambda: two(rows),
            lambda: whole(4, rows),
        ):
            found, line = check()
            say(line)
            wrong += found
    finally:
        hpc.shutdown()
    return wrong


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.data.consumer", description="What consumers may do to runs.")
    parser.add_argument("--seconds", type=float, default=30.0, help="for which the consumer stops")
    parser.add_argument("--short", action="store_true", help="less data")
    given = parser.parse_args(argv)
    wrong = consumer(given.seconds, 0.3 if given.short else 1.0)
    print(*(wrong or ["ok"]), sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

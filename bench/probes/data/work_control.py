"""What the executor itself costs: 10,000 blocks of one row, the first row of 10,000 files, two ranks that train."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from libraries import CORES, Parts, library

__all__ = ["library"]

SIZES = {"full": 10_000, "quick": 1_000}
STEPS, STEP_S, BATCH = 200, 0.01, 64


def prepare(folder: Path, count: int) -> None:
    if (folder / "done").exists():
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pq.write_table(pa.table({"id": [number]}), folder / f"{number:05d}.parquet")
    (folder / "done").touch()


def parts(peer: str, lib: Any, folder: Path, count: int) -> Parts:
    if peer == "dask":
        return
    yield "blocks", lambda: blocks(lib, count)
    yield "take", lambda: first(lib, folder)
    yield "ranks", lambda: ranks(peer, lib)
    if peer == "hpc":
        yield "bare", lambda: bare(count)


def blocks(data: Any, count: int) -> None:
    found = data.range(count, override_num_blocks=count).map(lambda row: {"id": row["id"] + 1})
    seen = sum(bundle.num_rows() for bundle in found.iter_internal_ref_bundles())
    if seen != count:
        raise SystemExit(f"{seen} rows came, not {count}")


def first(data: Any, folder: Path) -> None:
    (row,) = data.read_parquet(str(folder)).take(1)
    if "id" not in row:
        raise SystemExit(f"{row} is no row of the files")


def bare(count: int) -> None:
    """As many tasks without anything around."""
    import hpc

    @hpc.remote
    def one(number: int) -> dict[str, int]:
        return {"id": number + 1}

    hpc.get([one.remote(number) for number in range(count)])


def ranks(peer: str, data: Any) -> dict[str, float]:
    """The share of a rank's time in which it waited for its next batch; steps take 10 ms."""
    import importlib

    library: Any = importlib.import_module(peer)
    rows = STEPS * BATCH * CORES
    parts = data.range(rows, override_num_blocks=4 * CORES).streaming_split(CORES, equal=True)
    rank = library.remote(num_cpus=0)(train)
    found = library.get([rank.remote(part) for part in parts])
    return {"stalled": max(found)}


def train(part: Any) -> float:
    batches = iter(part.iter_batches(batch_size=BATCH))
    next(batches)  # the first one waits for the start of it all
    waited, began = 0.0, time.perf_counter()
    while True:
        asked = time.perf_counter()
        if next(batches, None) is None:
            break
        waited += time.perf_counter() - asked
        time.sleep(STEP_S)
    return waited / (time.perf_counter() - began)

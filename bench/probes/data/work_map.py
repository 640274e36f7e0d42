"""1 GB of 8 float columns in memory, three chained functions a * b + c on numpy batches of 4,096 rows; nothing is kept
of the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from libraries import CORES, Parts, library
from measuring import side_by_side

__all__ = ["library"]

COLUMNS = 8
BATCH = 4096
BLOCKS = 16
SIZES = {"full": 16_777_216, "quick": 2_097_152}  # rows
SHARE_OF_SLOW = 8  # HF writes each result to disk: it gets this part of the rows, and its seconds are multiplied


def prepare(folder: Path, rows: int) -> None:
    del folder, rows


def once(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: values * 1.5 + 2.0 for name, values in batch.items()}


def twice(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: values * 0.5 + 1.0 for name, values in batch.items()}


def thrice(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: values * 2.5 - 3.0 for name, values in batch.items()}


FUNCTIONS = (once, twice, thrice)


def columns(rows: int) -> dict[str, np.ndarray]:
    return {f"c{i}": np.arange(rows, dtype=np.float64) + i for i in range(COLUMNS)}


def parts(peer: str, lib: Any, folder: Path, rows: int) -> Parts:
    if peer in ("hpc", "ray"):
        import pyarrow as pa

        each = rows // BLOCKS
        source = lib.from_arrow([pa.table(columns(each)) for _ in range(BLOCKS)]).materialize()
        yield "map", lambda: through(source, rows)
    elif peer == "dask":
        import distributed

        each = rows // BLOCKS
        client = distributed.get_client()
        futures = client.map(columns, [each] * BLOCKS, pure=False)
        distributed.wait(futures)
        yield "map", lambda: client.gather(client.map(in_batches, futures))
    elif peer == "datasets":
        import datasets

        datasets.disable_progress_bars()
        some = lib.Dataset.from_dict(columns(rows // SHARE_OF_SLOW)).with_format("numpy")

        def chained() -> dict[str, float]:
            found = some
            for function in FUNCTIONS:
                found = found.map(function, batched=True, batch_size=BATCH, num_proc=CORES, load_from_cache_file=False)
            return {"slower": SHARE_OF_SLOW}

        yield "map", chained
    elif peer == "daft":
        frame = lib.from_pydict(columns(rows)).into_partitions(CORES).collect()

        def expressions() -> None:
            for _ in mapped_by_daft(lib, frame).iter_partitions():
                pass

        yield "map", expressions
    else:
        yield "map", lambda: {"map": side_by_side(resident, functions_alone, rows)}
        yield "map_copy", lambda: {"map_copy": side_by_side(resident, functions_and_copies, rows)}


def through(source: Any, rows: int) -> None:
    mapped = source
    for function in FUNCTIONS:
        mapped = mapped.map_batches(function, batch_size=BATCH)
    seen = 0
    for bundle in mapped.iter_internal_ref_bundles():
        seen += bundle.num_rows()
    if seen != rows:
        raise SystemExit(f"{seen} rows came, not {rows}")


def mapped_by_daft(lib: Any, frame: Any) -> Any:
    for scale, shift in ((1.5, 2.0), (0.5, 1.0), (2.5, -3.0)):

        @lib.func.batch(return_dtype=lib.DataType.float64())
        def step(values: Any, scale: float = scale, shift: float = shift) -> Any:
            return values.to_arrow().to_numpy() * scale + shift

        frame = frame.select(*[step(frame[name]).alias(name) for name in frame.column_names])
    return frame


def in_batches(whole: dict[str, np.ndarray]) -> int:
    """Each batch through the functions, the results together as a block."""
    rows = len(next(iter(whole.values())))
    out = {name: np.empty_like(values) for name, values in whole.items()}
    for at in range(0, rows, BATCH):
        batch = {name: values[at : at + BATCH] for name, values in whole.items()}
        for function in FUNCTIONS:
            batch = function(batch)
        for name, values in batch.items():
            out[name][at : at + BATCH] = values
    return rows


def resident(rows: int) -> dict[str, np.ndarray]:
    """The share of one process."""
    return columns(rows // CORES)


def functions_alone(there: dict[str, np.ndarray]) -> None:
    rows = len(next(iter(there.values())))
    for at in range(0, rows, BATCH):
        batch = {name: values[at : at + BATCH] for name, values in there.items()}
        for function in FUNCTIONS:
            batch = function(batch)


def functions_and_copies(there: dict[str, np.ndarray]) -> None:
    """All bytes are copied once before, and once after."""
    out = {name: values.copy() for name, values in there.items()}
    functions_alone(there)
    for name, values in there.items():
        out[name][:] = values

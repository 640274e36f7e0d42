"""1 GB of Arrow data in 8 parquet files (snappy; integers, floats, strings): every batch comes to the driver, which
adds up one column."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from libraries import Parts, library

__all__ = ["library"]

FILES = 8
ROW_GROUP = 250_000
SIZES = {"full": 3_000_000, "quick": 400_000}  # rows of a file


def prepare(folder: Path, rows: int) -> None:
    if (folder / "done").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    words = np.array([f"word-{i:05d}-{i * 7919 % 10007:05d}" for i in range(5000)])
    for number in range(FILES):
        rng = np.random.default_rng(number)
        table = pa.table({
            "id": np.arange(rows) + number * rows,
            "k": rng.integers(0, 1000, rows, dtype=np.int32),
            "f": rng.random(rows),
            "g": rng.random(rows, dtype=np.float32),
            "s": pa.array(words[rng.integers(0, len(words), rows)]),
        })  # fmt: skip
        pq.write_table(table, folder / f"part-{number}.parquet", compression="snappy", row_group_size=ROW_GROUP)
    (folder / "done").touch()


def parts(peer: str, lib: Any, folder: Path, rows: int) -> Parts:
    paths = sorted(map(str, folder.glob("*.parquet")))
    if peer == "limit":
        yield "scan", lambda: list(lib.map(bare, paths))
        yield "scan_copy", lambda: list(lib.map(bare_copy, paths))
        return
    yield "scan", lambda: added_up(BATCHES[peer](lib, folder, paths), rows * FILES)


def added_up(batches: Iterator[Any], rows: int) -> dict[str, float]:
    """The rows that came must be all; the sum is what is wanted of them."""
    total, seen = 0.0, 0
    for batch in batches:
        total += (
            pc.sum(batch["f"]).as_py() if isinstance(batch, (pa.Table, pa.RecordBatch)) else float(batch["f"].sum())
        )
        seen += len(batch)
    if seen != rows:
        raise SystemExit(f"{seen} rows came, not {rows}")
    return {"sum": total}


def ray_like(data: Any, folder: Path, paths: list[str]) -> Iterator[Any]:
    yield from data.read_parquet(paths).iter_batches(batch_size=None, batch_format="pyarrow")


def dask(frames: Any, folder: Path, paths: list[str]) -> Iterator[Any]:
    import distributed

    futures = distributed.get_client().compute(frames.read_parquet(paths).to_delayed())
    for future in distributed.as_completed(futures):
        yield future.result()
        future.release()


def polars(pl: Any, folder: Path, paths: list[str]) -> Iterator[Any]:
    for frame in pl.scan_parquet(paths).collect_batches():
        yield frame.to_arrow()


def daft(module: Any, folder: Path, paths: list[str]) -> Iterator[Any]:
    yield from module.read_parquet(paths).to_arrow_iter()


BATCHES = {"hpc": ray_like, "ray": ray_like, "dask": dask, "polars": polars, "daft": daft}


def bare(path: str) -> int:
    """Decode everything, and keep nothing."""
    pa.set_cpu_count(1)
    return sum(b.num_rows for b in pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20).iter_batches(65536))


def bare_copy(path: str) -> int:
    """The same, with each byte copied once more."""
    pa.set_cpu_count(1)
    place, at = np.empty(256 << 20, np.uint8), 0
    for batch in pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20).iter_batches(65536):
        for column in batch.columns:
            for buffer in column.buffers():
                if buffer is not None:
                    at = 0 if at + buffer.size > place.nbytes else at
                    place[at : at + buffer.size] = np.frombuffer(buffer, np.uint8)
                    at += buffer.size
    return at

"""10 M rows of 100 bytes: a random shuffle, a sort by an integer, a repartition by keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from libraries import CORES, Parts, library
from measuring import side_by_side

__all__ = ["library"]

SIZES = {"full": 10_000_000, "quick": 1_000_000}
BLOCKS, COLUMNS = 16, 11


def prepare(folder: Path, rows: int) -> None:
    if (folder / "done").exists():
        return
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    for number in range(BLOCKS):
        pq.write_table(block(number, rows // BLOCKS), folder / f"part-{number:02d}.parquet", compression="none")
    (folder / "done").touch()


def block(number: int, rows: int) -> pa.Table:
    """100 bytes a row: an integer key, a small key, numbers."""
    rng = np.random.default_rng(number)
    columns = {"key": rng.integers(0, 1 << 62, rows), "small": rng.integers(0, 1000, rows, dtype=np.int32)}
    columns |= {f"c{i}": rng.random(rows) for i in range(COLUMNS)}
    return pa.table(columns)


def parts(peer: str, lib: Any, folder: Path, rows: int) -> Parts:
    if peer in ("hpc", "ray"):
        source = lib.read_parquet(sorted(map(str, folder.glob("*.parquet")))).materialize()
        yield "shuffle", lambda: through(source.random_shuffle(seed=1), rows)
        yield "sort", lambda: through(source.sort("key"), rows)
        yield "keys", lambda: through(source.repartition(2 * CORES, keys=["small"]), rows)
    elif peer == "dask":
        frame = lib.read_parquet(sorted(map(str, folder.glob("*.parquet")))).persist()
        import distributed

        distributed.wait(frame)
        yield "sort", lambda: persisted(frame.sort_values("key"))
        yield "keys", lambda: persisted(frame.shuffle("small", npartitions=2 * CORES))
    elif peer == "polars":
        frame = lib.read_parquet(sorted(folder.glob("*.parquet")))
        yield "shuffle", lambda: frame.sample(fraction=1.0, shuffle=True, seed=1) is None
        yield "sort", lambda: frame.sort("key") is None
    elif peer == "daft":
        frame = lib.read_parquet(str(folder / "*.parquet")).collect()
        yield "sort", lambda: frame.sort("key").collect() is None
    else:
        yield "pass", lambda: {"pass": side_by_side(resident, copied, rows // CORES)}


def through(found: Any, rows: int) -> None:
    seen = sum(bundle.num_rows() for bundle in found.iter_internal_ref_bundles())
    if seen != rows:
        raise SystemExit(f"{seen} rows came, not {rows}")


def persisted(frame: Any) -> None:
    import distributed

    distributed.wait(frame.persist())


def resident(rows: int) -> list[np.ndarray]:
    """The bytes of a process's share, and a place for them that has been used before."""
    return [np.ones(rows * 100, np.uint8), np.ones(rows * 100, np.uint8)]


def copied(there: list[np.ndarray]) -> None:
    np.copyto(there[1], there[0])

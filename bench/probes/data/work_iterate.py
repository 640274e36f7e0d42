"""Iteration over what is in memory: (a) 2 GB of images as tensors, 64 at a time; (b) 10 M rows of 8 floats, 256 at a
time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from libraries import CORES, Parts, library
from measuring import side_by_side

__all__ = ["library"]

IMAGE = (224, 224, 3)
BATCH_A, BATCH_B, COLUMNS = 64, 256, 8
BLOCKS = 16
SIZES = {"full": (13_824, 10_000_000), "quick": (1_536, 640_000)}  # images, rows


def prepare(folder: Path, size: tuple[int, int]) -> None:
    del folder, size


def images(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (count, *IMAGE), dtype=np.uint8)


def floats(count: int) -> dict[str, np.ndarray]:
    return {f"c{i}": np.arange(count, dtype=np.float32) for i in range(COLUMNS)}


def parts(peer: str, lib: Any, folder: Path, size: tuple[int, int]) -> Parts:
    count, rows = size
    if peer in ("hpc", "ray"):
        import torch  # its seconds are no part of the work

        torch.set_num_threads(1)
        each = count // BLOCKS
        pictures = lib.from_numpy([images(each) for _ in range(BLOCKS)]).materialize()
        yield "images", lambda: counted(pictures.iter_torch_batches(batch_size=BATCH_A), "data", count, rows)
        table = lib.range(rows // 10, override_num_blocks=BLOCKS)
        table = table.map_batches(lambda b: floats(len(b["id"]) * 10), batch_size=None).materialize()
        yield "rows", lambda: counted(table.iter_batches(batch_size=BATCH_B, batch_format="numpy"), "c0", rows, rows)
    elif peer == "torch":
        loader = lib.utils.data.DataLoader(Pictures(count), batch_size=BATCH_A, num_workers=CORES)
        yield "images", lambda: counted(({"data": batch} for batch in loader), "data", count, rows)
        several = lib.utils.data.DataLoader(Rows(rows), batch_size=None, num_workers=CORES)
        yield "rows", lambda: counted(several, "c0", rows, rows)
    elif peer == "datasets":
        some = lib.Dataset.from_dict(floats(rows // 8)).with_format("numpy")
        yield "rows", lambda: {"rows_slower": 8} | counted(some.iter(BATCH_B), "c0", rows // 8, rows)
    else:
        yield "images", lambda: {"images": side_by_side(images, copied, count, 1)}
        yield "rows", lambda: {"rows": side_by_side(floats, sliced, rows, 1)}


class Pictures:
    def __init__(self, count: int) -> None:
        self.there = images(count)

    def __len__(self) -> int:
        return len(self.there)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.there[index]


class Rows:
    """Whole batches by index, as one writes it who has measured the loader before."""

    def __init__(self, count: int) -> None:
        self.there = floats(count)
        self.count = count

    def __len__(self) -> int:
        return -(-self.count // BATCH_B)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        if index >= len(self):
            raise IndexError(index)
        return {name: values[index * BATCH_B : (index + 1) * BATCH_B] for name, values in self.there.items()}


def counted(batches: Any, column: str, wanted: int, rows: int) -> dict[str, float]:
    """All rows must come."""
    seen = count = 0
    for batch in batches:
        seen += len(batch[column])
        count += 1
    if seen != wanted:
        raise SystemExit(f"{seen} rows came, not {wanted}")
    return {"batches": count} if wanted == rows else {}


def copied(pictures: np.ndarray) -> None:
    """The limit of (a): each batch copied once."""
    place = np.empty((BATCH_A, *IMAGE), np.uint8)
    for at in range(0, len(pictures) - BATCH_A + 1, BATCH_A):
        np.copyto(place, pictures[at : at + BATCH_A])


def sliced(there: dict[str, np.ndarray]) -> None:
    """The limit of (b): views."""
    for at in range(0, len(there["c0"]), BATCH_B):
        _ = {name: values[at : at + BATCH_B] for name, values in there.items()}

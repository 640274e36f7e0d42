"""20,000 files of 4 KB in 200 directories: seconds to the first batch, and to the last."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from libraries import CORES, Parts, library

__all__ = ["library"]

SIZES = {"full": 20_000, "quick": 2_000}
DIRECTORIES, BYTES = 200, 4096


def prepare(folder: Path, count: int) -> None:
    if (folder / "done").exists():
        return
    for directory in range(DIRECTORIES):
        place = folder / f"d{directory:03d}"
        place.mkdir(parents=True, exist_ok=True)
        for number in range(count // DIRECTORIES):
            (place / f"{number:04d}.bin").write_bytes(os.urandom(BYTES))
    (folder / "done").touch()


def parts(peer: str, lib: Any, folder: Path, count: int) -> Parts:
    if peer in ("hpc", "ray"):

        def batches() -> Iterable[Any]:
            found = lib.read_binary_files(str(folder), file_extensions=["bin"])
            return (batch["bytes"] for batch in found.iter_batches(batch_size=256))

        yield "all", lambda: first_and_all(batches, count)
    elif peer == "torch":
        yield (
            "all",
            lambda: first_and_all(
                lambda: lib.utils.data.DataLoader(Files(folder), batch_size=256, num_workers=CORES, collate_fn=list),
                count,
            ),
        )
    elif peer == "daft":

        def streamed() -> Iterable[Any]:
            paths = lib.from_glob_path(str(folder / "**" / "*.bin"))
            for batch in paths.select(lib.col("path").download()).to_arrow_iter():
                yield batch.column(0)

        yield "all", lambda: first_and_all(streamed, count)
    else:
        yield "all", lambda: {"files": sum(lib.map(bare, [(str(folder), n) for n in range(CORES)]))}


class Files:
    def __init__(self, folder: Path) -> None:
        self.paths = [entry.path for place in sorted(folder.iterdir()) if place.is_dir() for entry in os.scandir(place)]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> bytes:
        with open(self.paths[index], "rb") as file:
            return file.read()


def first_and_all(begin: Any, count: int) -> dict[str, float]:
    began, first, seen = time.perf_counter(), 0.0, 0
    for batch in begin():
        first = first or time.perf_counter() - began
        seen += len(batch)
    if seen != count:
        raise SystemExit(f"{seen} files came, not {count}")
    return {"first": first}


def bare(work: tuple[str, int]) -> int:
    """The limit: list, open, read, close."""
    folder, number = work
    places = sorted(entry.path for entry in os.scandir(folder) if entry.is_dir())[number::CORES]
    seen = 0
    for place in places:
        for entry in os.scandir(place):
            file = os.open(entry.path, os.O_RDONLY)
            seen += len(os.read(file, BYTES + 1)) == BYTES
            os.close(file)
    return seen

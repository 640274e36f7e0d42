"""The rows of the work "exchange", from files, sorted with an object store of 256 MB: most of them go to disk between
the two steps of the sort. Beside it what the disk alone needs to take as many bytes and give them back.

Nothing makes a library's spilled bytes reach the disk, where the system has memory for them. So the same is measured
twice: with all bytes flushed, dropped from the system's cache and read again ("disk"), and as the cache has them
("cache").
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import libraries
import numpy as np
from libraries import CORES, Parts
from measuring import side_by_side
from work_exchange import SIZES, prepare, through

__all__ = ["SIZES", "prepare"]

STORE = 256 << 20
PIECE = 4 << 20


@contextlib.contextmanager
def library(peer: str) -> Iterator[Any]:
    """The library, with a small store."""
    with libraries.library(peer, STORE) as found:
        yield found


def parts(peer: str, lib: Any, folder: Path, rows: int) -> Parts:
    if peer == "limit":
        yield "disk", lambda: {"disk": side_by_side(lambda size: Moved(folder, size), flushed, rows * 100 // CORES)}
        yield "cache", lambda: {"cache": side_by_side(lambda size: Moved(folder, size), cached, rows * 100 // CORES)}
        return
    paths = sorted(map(str, folder.glob("*.parquet")))
    yield "sort", lambda: through(lib.read_parquet(paths).sort("key"), rows)


class Moved:
    """A file of its own in the folder, and bytes that are written to it."""

    def __init__(self, folder: Path, size: int) -> None:
        self.path, self.count = folder / f"moved-{os.getpid()}", max(1, size // PIECE)
        self.piece = np.random.default_rng(0).bytes(PIECE)
        self.place = bytearray(PIECE)

    def go(self, between: Callable[[int], None]) -> None:
        """Write all, and read it again."""
        with open(self.path, "w+b", buffering=0) as file:
            try:
                for _ in range(self.count):
                    file.write(self.piece)
                between(file.fileno())
                file.seek(0)
                while file.readinto(self.place):
                    pass
            finally:
                os.unlink(self.path)


def flushed(moved: Moved) -> None:
    """The bytes reach the disk, and come from there."""

    def drop(file: int) -> None:
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)

    moved.go(drop)


def cached(moved: Moved) -> None:
    """The bytes stay in memory as far as the system has some."""
    moved.go(lambda file: None)

"""Where the samples of large tar archives begin, so that several tasks, or ranks, read one archive at a time.

One pass over the headers of an archive tells that: 10 us for each member, where reading it takes 100. What a pass has
found is kept for the rest of the process, beside what was listed. Small archives are read as wholes, and so are those
of small members: there most of the bytes would be read twice. Archives that are compressed or in an object store have
no index.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from hpc.data.io.grouping import Piece
from hpc.data.io.opened import OpenFile
from hpc.data.io.tar import BLOCK, starts

#: Archives from so many bytes on have an index; pieces of so many bytes, or one sample.
LARGE, PART = 64 << 20, 16 << 20
#: The first members are looked at: they have so many bytes on the average at least.
LOOKED, MEAN = 64, 32 << 10
#: The indices of so many archives are kept.
KEPT = 64

#: The sample of a member, what of it the member is, and whether it is wanted; None where it is of no sample.
Named = Callable[[str], "tuple[str, str, bool] | None"]
_known: dict[tuple[Any, ...], tuple[list[Piece] | None, Any]] = {}
_lock = threading.Lock()


def parts(file: OpenFile, named: Named, about: tuple[Any, ...]) -> list[Piece] | None:
    """The pieces of an archive, each of whole samples, with the number of their rows. ``about``: what ``named`` depends
    on. A whole file is one piece of unknown rows; None where the operating system does not know it."""
    path = file.local
    if path is None:
        return None
    status = os.stat(path)
    whole = [Piece(file.path, nbytes=status.st_size)]
    if status.st_size < LARGE or file.compression is not None:
        return whole
    key = (path, status.st_size, status.st_mtime_ns, *map(id, about))
    with _lock:
        known = _known.get(key)
    if known is None:
        known = (_indexed(path, file.path, status.st_size, named), about)  # what has an id here stays there
        with _lock:
            _known[key] = known
            while len(_known) > KEPT:
                del _known[next(iter(_known))]
    return whole if known[0] is None else known[0]


def _indexed(local: str, path: str, size: int, named: Named) -> list[Piece] | None:
    """None where members are small, or where reading the whole archive says what is wrong with it."""
    descriptor = os.open(local, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        pieces = _Pieces(path)
        for count, (begin, name, end) in enumerate(starts(lambda place, length: os.pread(descriptor, length, place))):
            if count == LOOKED and begin < LOOKED * MEAN:
                return None
            found = named(name)
            if end > size or (found is not None and not pieces.add(begin, *found)):
                return None
        return pieces.ended(size)
    except ValueError:
        return None
    finally:
        os.close(descriptor)


class _Pieces:
    """The pieces of an archive, as its members come."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._made: list[Piece] = []
        self._first = self._rows = 0
        self._key: str | None = None
        self._has: set[str] = set()
        self._is_row = False
        self._seen: set[str] = set()

    def add(self, begin: int, key: str, suffix: str, is_wanted: bool) -> bool:
        """The next member that is of a sample. False where samples are mixed up."""
        if key != self._key:
            self._rows += self._is_row
            if key in self._seen:
                return False
            self._seen.add(key)
            if begin - self._first >= PART and self._rows:
                self._cut(begin)
            self._key, self._is_row = key, False
            self._has.clear()
        if suffix in self._has:
            return False
        if is_wanted:
            self._has.add(suffix)
            self._is_row = True
        return True

    def _cut(self, end: int) -> None:
        self._made.append(Piece(self._path, self._first, end, self._rows, end - self._first))
        self._first, self._rows = end, 0

    def ended(self, size: int) -> list[Piece]:
        """All of them."""
        self._rows += self._is_row
        self._cut(max(size, self._first + BLOCK))
        return self._made

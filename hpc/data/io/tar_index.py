"""Where the samples of large tar archives begin, so that several tasks, or ranks, read one archive at a time.

One pass over the headers of an archive tells that: 10 us for each member, where reading it takes 100. Where headers
come from a network file system, threads read them of several stretches at a time. What a pass has found is kept for
the rest of the process, beside what was listed. Small archives are read as wholes, and so are those of small members:
there most of the bytes would be read twice. Archives that are compressed or in an object store have no index.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple

from hpc.data.io.files import by_threads
from hpc.data.io.grouping import Piece
from hpc.data.io.opened import OpenFile
from hpc.data.io.tar import BLOCK, TarError, looks_like_header, starts

#: Archives from so many bytes on have an index; pieces of so many bytes, or one sample.
LARGE, PART = 64 << 20, 16 << 20
#: The first members are looked at: they have so many bytes on the average at least.
LOOKED, MEAN = 64, 32 << 10
#: The indices of so many archives are kept.
KEPT = 64
#: Archives are walked through in stretches of so many bytes, by threads where a member takes so long: headers that the
#: machine has in memory take 10 us. The first header of a stretch is looked for in so many bytes, by the word in it.
STRETCH, SLOW_S, NEAR, MAGIC = 32 << 20, 50e-6, 1 << 20, 257

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
        with closing(_members(descriptor, size)) as members:
            for count, (begin, name, end) in enumerate(members):
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


#: Where a member begins, its name, and where it ends.
Member = tuple[int, str, int]


class _Walked(NamedTuple):
    """The members of a stretch of an archive. ``first``: where the first of them begins. ``next``: where that of the
    next stretch does; None at the end of the archive."""

    first: int
    members: list[Member]
    next: int | None


def _members(descriptor: int, size: int) -> Generator[Member, None, None]:
    """The members of an archive in turn.

    Where a header takes long, as in a network file system that has not read it yet, threads walk through stretches that
    come later. Each begins at what looks like a header. It counts only if the stretch before it ends just there: else
    it is walked through once more."""
    begun = time.perf_counter()
    at = 0
    for count, member in enumerate(starts(partial(_read, descriptor))):  # with these it shows whether there is an index
        yield member
        at = member[2]
        if count == LOOKED:
            break
    else:
        return
    is_slow = time.perf_counter() - begun > SLOW_S * (2 + LOOKED)
    stretches = range((at // STRETCH + 1) * STRETCH, size, STRETCH)
    walked = _walk(descriptor, at, stretches.start)
    yield from walked.members
    guesses = by_threads(partial(_guess, descriptor), iter(stretches)) if is_slow else None
    try:
        for begin in stretches:
            found = None if guesses is None else next(guesses, None)
            after = walked.next
            if after is None:
                return
            if found is None or found.first != after:
                found = _walk(descriptor, after, begin + STRETCH)
            walked = found
            yield from walked.members
    finally:
        if guesses is not None:
            guesses.close()


def _read(descriptor: int, place: int, length: int) -> bytes:
    return os.pread(descriptor, length, place)


def _walk(descriptor: int, at: int, end: int) -> _Walked:
    """The members from a place on that begin before the end of a stretch. Raises TarError."""
    if at >= end:
        return _Walked(at, [], at)
    found: list[Member] = []
    after = at
    for member in starts(partial(_read, descriptor), at):
        if member[0] >= end:
            return _Walked(at, found, after)
        found.append(member)
        after = member[2]
        if after >= end:
            return _Walked(at, found, after)
    return _Walked(at, found, None)


def _guess(descriptor: int, begin: int) -> _Walked | None:
    """The members of the stretch that begins there; None where nothing near its beginning looks like a header."""
    data = os.pread(descriptor, NEAR, begin)
    word = data.find(b"ustar")
    while word >= 0:
        first, rest = divmod(word - MAGIC, BLOCK)
        if not rest and first >= 0 and looks_like_header(data[first * BLOCK : (first + 1) * BLOCK]):
            try:
                return _walk(descriptor, begin + first * BLOCK, begin + STRETCH)
            except TarError:
                return None
        word = data.find(b"ustar", word + 1)
    return None


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

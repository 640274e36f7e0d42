"""Files become tasks: small ones in groups, large ones of some formats in pieces. Pure, and lazy over the listing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import NamedTuple

from hpc.data.io.listing import Entry
from hpc.data.io.source import HEAD

#: Tasks of many small files read about so much; a task of less than LEAST bytes costs more than it reads.
TARGET = 32 << 20
LEAST = 1 << 20
#: A file that can be cut is cut into pieces of so much at most.
PIECE = 128 << 20


class Piece(NamedTuple):
    """A part of a file: the units from ``first`` to ``end`` (bytes or row groups, as the format counts; None: all).

    ``rows`` and ``nbytes`` (as in the file) are None where they are unknown.
    """

    path: str
    first: int = 0
    end: int | None = None
    rows: int | None = None
    nbytes: int | None = None


class Sizes:
    """The sizes of files, asked of the first ones and of some later ones: the others count as their mean."""

    def __init__(self, ask: Callable[[Entry], int | None]) -> None:
        self.ask = ask
        self.asked = 0
        self.known = 0
        self.total = 0

    def of(self, entry: Entry) -> int | None:
        """The size of a file where it is known or asked for."""
        size = entry.size
        if size is None and (self.asked < 64 or self.asked % HEAD == 0):
            size = self.ask(entry)
        self.asked += 1
        if size is not None:
            self.known += 1
            self.total += size
        return size

    @property
    def mean(self) -> float:
        return self.total / self.known if self.known else 0.0


def pieces(
    entries: Iterable[Entry], sizes: Sizes, piece_bytes: Callable[[Entry], int | None] | None = None
) -> Iterator[Piece]:
    """The files as pieces. ``piece_bytes`` says into how large pieces a file of a format may be cut; None: not."""
    if piece_bytes is None:
        for entry in entries:
            yield Piece(entry.path, nbytes=sizes.of(entry))
        return
    for entry in entries:
        size = sizes.of(entry)
        most = piece_bytes(entry)
        if most is None or size is None or size <= most:
            yield Piece(entry.path, nbytes=size)
            continue
        count = -(-size // most)
        for index in range(count):
            first, end = size * index // count, size * (index + 1) // count
            yield Piece(entry.path, first, end, None, end - first)


def groups(found: Iterator[Piece], sizes: Sizes, parallelism: int) -> Iterator[list[Piece]]:
    """The pieces of each task, in order.

    A short listing makes ``parallelism`` groups of about equal bytes, or fewer if there are fewer pieces. With -1 each
    group has about TARGET bytes. Of a long listing the first groups are small, so that all processors have work at
    once, and later ones grow to TARGET.
    """
    head = list(islice(found, HEAD))
    if len(head) < HEAD:
        yield from balanced(head, sizes, parallelism)
        return
    wanted = parallelism if parallelism > 0 else 8
    count, made = max(1, HEAD // (2 * wanted)), 0
    coming = chain(head, found)
    while True:
        most = max(1, int(TARGET / sizes.mean)) if sizes.mean else HEAD
        group = list(islice(coming, min(count, most)))
        if not group:
            return
        yield group
        made += 1
        if made % wanted == 0:
            count *= 2


def balanced(all_pieces: list[Piece], sizes: Sizes, parallelism: int) -> Iterator[list[Piece]]:
    """Consecutive groups of about equal bytes. A file of unknown size counts as the mean."""
    if not all_pieces:
        return
    weights = [max(1.0, sizes.mean if piece.nbytes is None else float(piece.nbytes)) for piece in all_pieces]
    total = sum(weights)
    if parallelism <= 0:
        parallelism = max(1, min(len(all_pieces), round(total / TARGET)))
    count = min(parallelism, len(all_pieces))
    group: list[Piece] = []
    done, made = 0.0, 0
    for index, (piece, weight) in enumerate(zip(all_pieces, weights)):
        group.append(piece)
        done += weight
        left = len(all_pieces) - index - 1
        # A group ends next to its share of the bytes, early enough that each later group has a piece.
        over = done + (weights[index + 1] / 2 if left else 0.0)
        if made < count - 1 and (over >= total * (made + 1) / count or left <= count - made - 1):
            yield group
            group, made = [], made + 1
    if group:
        yield group


def without(done: list[tuple[int, int | None]], first: int, end: int | None) -> list[tuple[int, int | None]]:
    """What is left of a range: the parts that are in no range that is done. An end of None is that of the file."""
    left: list[tuple[int, int | None]] = [(first, end)]
    for begin, stop in done:
        found: list[tuple[int, int | None]] = []
        for low, high in left:
            if (stop is not None and low >= stop) or (high is not None and begin >= high):
                found.append((low, high))
                continue
            if low < begin:
                found.append((low, begin))
            if stop is not None and (high is None or stop < high):
                found.append((stop, high))
        left = found
    return left

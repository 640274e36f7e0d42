"""How the blocks of one run are shared by several that ask for them: without I/O, and without a clock."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

#: The most blocks for each rank that wait for ranks which are behind.
WAITING = 2
#: The most blocks that wait where each rank gets all of them.
COPIES = 8


class Piece(NamedTuple):
    """Rows start to stop - 1 of a block."""

    block: Any
    start: int
    stop: int


class Sharing:
    """Of one pass: who gets which rows. Blocks are put in as they come, and taken out by the ranks that ask.

    With ``equal`` all that stay to the end get the same number of rows. For that, rows are held back: as many as the
    others lack of the rank that has most. A rank that has left gets nothing, and nobody waits for it."""

    def __init__(self, ranks: int, equal: bool) -> None:
        self.equal = equal
        self.given = dict.fromkeys(range(ranks), 0)
        self.is_over = False
        self._held: deque[Piece] = deque()
        self._rows = 0

    def put(self, block: Any, rows: int) -> None:
        """A block has come."""
        if rows:
            self._held.append(Piece(block, 0, rows))
            self._rows += rows

    def leave(self, rank: int) -> None:
        """A rank wants no more."""
        self.given.pop(rank, None)

    def is_full(self) -> bool:
        """Whether enough blocks wait: no more should come before some are taken."""
        return len(self._held) >= (WAITING * max(1, len(self.given)) if self.equal else 1)

    def take(self, rank: int) -> Piece | None:
        """The next rows of a rank. None: it has to wait for blocks, for other ranks, or has all that it gets."""
        if rank not in self.given or not self._held:
            return None
        piece = self._held[0]
        rows = piece.stop - piece.start
        most = self._most(rank) if self.equal else rows
        if most < rows:
            if most < 1 or not (self.is_over or self.is_full()):
                return None
            rows = most
        self._held.popleft()
        if piece.start + rows < piece.stop:
            self._held.appendleft(piece._replace(start=piece.start + rows))
        self._rows -= rows
        self.given[rank] += rows
        return piece._replace(stop=piece.start + rows)

    def behind(self) -> list[int]:
        """The ranks that others wait for: they could take rows, and have fewest of all."""
        least = min(self.given.values(), default=0)
        return sorted(rank for rank, rows in self.given.items() if rows == least and self._held)

    def has_all(self, rank: int) -> bool:
        """Whether nothing will come for a rank any more."""
        if rank not in self.given:
            return True
        return self.is_over and (not self._held or (self.equal and self._most(rank) < 1))

    def _most(self, rank: int) -> int:
        """The most rows that a rank may have now: all others could still get as many as it has then."""
        top = max(self.given.values())
        missing = sum(top - rows for rows in self.given.values())
        return top - self.given[rank] + (self._rows - missing) // len(self.given)


class Copies:
    """Of one pass in which each rank gets all blocks, in their order. A block is kept until all have taken it."""

    def __init__(self, ranks: int) -> None:
        self.given = dict.fromkeys(range(ranks), 0)
        self.is_over = False
        self._held: deque[Piece] = deque()
        self._first = 0

    def put(self, block: Any, rows: int) -> None:
        """A block has come."""
        if rows:
            self._held.append(Piece(block, 0, rows))

    def leave(self, rank: int) -> None:
        """A rank wants no more."""
        self.given.pop(rank, None)
        self._forget()

    def is_full(self) -> bool:
        """Whether enough blocks wait: no more should come before all have taken the first."""
        return len(self._held) >= COPIES

    def take(self, rank: int) -> Piece | None:
        """The next block of a rank. None: it has to wait, or has all."""
        at = self.given.get(rank, -1) - self._first
        if not 0 <= at < len(self._held):
            return None
        piece = self._held[at]
        self.given[rank] += 1
        self._forget()
        return piece

    def behind(self) -> list[int]:
        """The ranks that others wait for: the first block is kept for them."""
        return sorted(rank for rank, taken in self.given.items() if taken == self._first and self._held)

    def has_all(self, rank: int) -> bool:
        """Whether nothing will come for a rank any more."""
        return rank not in self.given or (self.is_over and self.given[rank] == self._first + len(self._held))

    def _forget(self) -> None:
        while self._held and all(taken > self._first for taken in self.given.values()):
            self._held.popleft()
            self._first += 1

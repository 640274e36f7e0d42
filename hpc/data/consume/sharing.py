"""How the blocks of one run are shared by several that ask for them: without I/O, and without a clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

#: How ranks get as many rows: "drop" (or True) leaves the last ones out, "pad" gives some twice. False: they need not.
Equal: TypeAlias = "Literal['drop', 'pad'] | bool"
#: The most blocks for each rank that wait for ranks which are behind.
WAITING = 2
#: The most blocks that wait where each rank gets all of them.
COPIES = 8


class Piece(NamedTuple):
    """Rows start to stop - 1 of a block, which lies on a node ("": unknown)."""

    block: Any
    start: int
    stop: int
    node: str = ""


def check_equal(equal: Any) -> None:
    """Raises ValueError for what is none of the ways."""
    if not isinstance(equal, bool) and equal not in ("drop", "pad"):
        raise ValueError(f"equal must be True, False, 'drop' or 'pad', not {equal!r}")


class Sharing:
    """Of one pass: who gets which rows. Blocks are put in as they come, and taken out by the ranks that ask.

    With ``equal`` all that stay to the end get the same number of rows. For that, rows are held back: as many as the
    others lack of the rank that has most. With "pad" rows of the last block come once more, until there are enough for
    all. A rank that has left gets nothing, and nobody waits for it. ``nodes``: of the ranks. A rank gets a block of its
    own node first, if one waits."""

    def __init__(self, ranks: int, equal: Equal, nodes: Sequence[str] | None = None) -> None:
        self.equal = bool(equal)
        self._pads = equal == "pad"
        self._nodes = nodes
        self.given = dict.fromkeys(range(ranks), 0)
        self.is_over = False
        self._last: Piece | None = None
        self._held: deque[Piece] = deque()
        self._rows = 0

    def put(self, block: Any, rows: int, node: str = "") -> None:
        """A block has come."""
        if rows:
            self._last = Piece(block, 0, rows, node)
            self._held.append(self._last)
            self._rows += rows

    def end(self) -> None:
        """The last block has come."""
        self.is_over = True
        last = self._last
        if not self._pads or last is None or not self.given:
            return
        missing = -(sum(self.given.values()) + self._rows) % len(self.given)
        while missing:
            rows = min(missing, last.stop)
            self._held.append(last._replace(stop=rows))
            self._rows, missing = self._rows + rows, missing - rows

    def leave(self, rank: int) -> None:
        """A rank wants no more."""
        self.given.pop(rank, None)

    def is_full(self) -> bool:
        """Whether enough blocks wait: no more should come before some are taken."""
        several = self.equal or self._nodes is not None
        return len(self._held) >= (WAITING * max(1, len(self.given)) if several else 1)

    def take(self, rank: int) -> Piece | None:
        """The next rows of a rank. None: it has to wait for blocks, for other ranks, or has all that it gets."""
        if rank not in self.given or not self._held:
            return None
        place = self._nearest(rank)
        piece = self._held[place]
        rows = piece.stop - piece.start
        most = self._most(rank) if self.equal else rows
        if most < rows:
            if most < 1 or not (self.is_over or self.is_full()):
                return None
            rows = most
        if piece.start + rows < piece.stop:
            self._held[place] = piece._replace(start=piece.start + rows)
        else:
            del self._held[place]
        self._rows -= rows
        self.given[rank] += rows
        return piece._replace(stop=piece.start + rows)

    def _nearest(self, rank: int) -> int:
        """The place of the block that a rank should have: the first on its node, or on no node of another rank."""
        if self._nodes is None:
            return 0
        near, others = self._nodes[rank], {self._nodes[one] for one in self.given}
        nodes = [piece.node for piece in self._held]
        if near in nodes:
            return nodes.index(near)
        return next((place for place, node in enumerate(nodes) if node not in others), 0)

    def is_near(self, rank: int) -> bool:
        """Whether a block waits on the node of a rank, so that it may ask for several at once."""
        return self._nodes is None or any(piece.node == self._nodes[rank] for piece in self._held)

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

    def put(self, block: Any, rows: int, node: str = "") -> None:
        """A block has come."""
        if rows:
            self._held.append(Piece(block, 0, rows, node))

    def end(self) -> None:
        """The last block has come."""
        self.is_over = True

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

    def is_near(self, rank: int) -> bool:
        """Blocks go to all ranks in any case."""
        return True

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

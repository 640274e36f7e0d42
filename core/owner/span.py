"""The part of its node's arena in which a process places objects by itself, one behind the other. Pure.

The raylet gives it with the room for an object that finds none in the last one (`core/raylet/writing.py`). So of many
objects only a few cost a question.
"""

from __future__ import annotations

from hpc.core.store.layout import rounded

#: A span, where the arena is large enough, and the part of the arena that it is at most.
SPAN_BYTES = 8 << 20
ARENA_SHARE = 64
#: An object that takes more than this part of a span gets room of its own: a question costs it little.
OBJECT_SHARE = 4
#: A span in which nothing was placed for so long is given back.
IDLE_S = 1.0


def span_bytes(arena_bytes: int) -> int:
    """How large a span a process asks for."""
    return min(SPAN_BYTES, arena_bytes // ARENA_SHARE)


class Span:
    """From ``at`` to ``end`` nothing is placed yet. ``most``: the bytes that are asked for; 0 for none."""

    __slots__ = ("_idle_since", "_used", "at", "end", "most", "object_share")

    def __init__(self) -> None:
        self.at = self.end = self.most = 0
        self.object_share = OBJECT_SHARE
        self._used = False
        self._idle_since = 0.0

    @property
    def left(self) -> int:
        """Bytes in which nothing is placed yet."""
        return self.end - self.at

    def place(self, size: int) -> int:
        """Room for an object: its offset, or -1."""
        at = self.at
        end = at + rounded(size)
        if end > self.end:
            return -1
        self.at = end
        self._used = True
        return at

    def wanted(self, size: int) -> int:
        """The bytes to ask for beside an object of this size for which there is no room. They are for so many more like
        it that no rest is left."""
        need = rounded(size)
        return self.most // need * need if need * self.object_share <= self.most else 0

    def take(self, offset: int, size: int) -> tuple[int, int]:
        """Have another span from now on. Returns what was left of the last one, to be given back: (offset, bytes)."""
        left = self.give_back()
        self.at, self.end, self._used = offset, offset + size, True
        return left

    def give_back(self) -> tuple[int, int]:
        """Place nothing more in this span. Returns what is left of it: (offset, bytes)."""
        left = self.at, self.left
        self.at = self.end = 0
        return left

    def is_idle(self, now: float) -> bool:
        """Whether nothing was placed for a while."""
        if self._used:
            self._used, self._idle_since = False, now
        return self.left > 0 and now - self._idle_since >= IDLE_S

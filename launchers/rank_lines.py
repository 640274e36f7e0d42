"""Tracebacks that ranks write are held back a moment: they may be the last thing that they say. No I/O.

If the rank goes on, they are shown as they came, a little later. If it fails, they are what is shown last, once; or,
where another rank was the first to fail, noise that is kept aside.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

#: A rank that has not failed so long after a traceback goes on.
HOLD_S = 3.0
#: A rank that writes more than this is not held back: it does something else than to fail.
MOST_LINES = 1000
_BEGINS = re.compile(r"(\[rank\d+\]:? ?)?Traceback \(most recent call last\):")


@dataclass
class _OfRank:
    until_s: float
    lines: list[str]
    kept: bool = False


@dataclass
class HeldLines:
    """What is held back, by rank."""

    _held: dict[int, _OfRank] = field(default_factory=dict)

    def take(self, rank: int, fd: int, line: str, now: float) -> bool:
        """Whether the line is held back."""
        held = self._held.get(rank)
        if fd != 2 or (held is None and not _BEGINS.match(line)):
            return False
        if held is None:
            held = self._held[rank] = _OfRank(now + HOLD_S, [])
        held.lines.append(line)
        return True

    def has_begun(self, rank: int) -> bool:
        """Whether the line of this rank that was taken last is the first of those that are held."""
        return rank in self._held and len(self._held[rank].lines) == 1

    def keep(self, rank: int) -> None:
        """The rank has failed: what it wrote stays until it is known which was the first."""
        if rank in self._held:
            self._held[rank].kept = True

    def due(self, now: float) -> list[tuple[int, str]]:
        """The lines of ranks that go on, which are to be shown now."""
        going_on = [
            rank
            for rank, held in self._held.items()
            if not held.kept and (now >= held.until_s or len(held.lines) > MOST_LINES)
        ]
        return [(rank, line) for rank in going_on for line in self._held.pop(rank).lines]

    def all_of(self, rank: int) -> list[str]:
        """The lines of a rank, which are held no longer."""
        held = self._held.pop(rank, None)
        return held.lines if held is not None else []

    def ranks(self) -> list[int]:
        """The ranks of which something is held back."""
        return sorted(self._held)

"""Lines of many workers that say the same, shown once: pure, as Ray documents it.

Lines are the same if they are equal but for words with digits in them. The first is shown at once, and so is every line
as long as one process alone says it. What other processes say as well is counted, and shown as one line with its number
after ``window_s``, or at the end. Then the counting goes on. Nothing is lost: the numbers add up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

#: Kinds of lines that are remembered at a time: the oldest are shown and forgotten.
MAX_KNOWN = 5000
#: Longer lines are shown as they come.
MAX_LINE = 4096
_DIGIT = re.compile(r"\d")


class Origin(NamedTuple):
    """The writer of a line: the task or actor, its process, its node."""

    name: str
    pid: int
    node: int


class Shown(NamedTuple):
    """A line to be shown; ``times``: so many were folded into it, 0 for one that is shown as it came."""

    origin: Origin
    line: str
    times: int = 0


@dataclass(slots=True)
class _Known:
    """A kind of lines. ``count`` of them were not shown yet, of which ``line`` is the last."""

    since: float
    line: str
    origin: Origin
    count: int = 0
    sources: set[tuple[int, int]] = field(default_factory=set)


def kind_of(line: str) -> str:
    """What lines that say the same have in common; empty for those that are never folded."""
    if len(line) > MAX_LINE:
        return ""
    return " ".join(word for word in line.split() if not _DIGIT.search(word))


class Folder:
    """Folds the lines of one stream. ``allow``: lines that are never folded; ``skip``: others that are never shown."""

    def __init__(self, window_s: float, allow: re.Pattern[str] | None = None, skip: re.Pattern[str] | None = None):
        self.window_s = window_s
        self._allow = allow
        self._skip = skip
        #: By kind, the one that was shown longest ago first.
        self._known: dict[str, _Known] = {}
        #: Lines that were not shown yet.
        self.pending = 0

    def take(self, origin: Origin, lines: list[str], now: float) -> Iterator[Shown]:
        """Lines that have come; gives what is to be shown now."""
        for line in lines:
            if self._allow is not None and self._allow.search(line):
                yield Shown(origin, line)
            elif self._skip is not None and self._skip.search(line):
                continue
            elif self._is_first(origin, line, now):
                yield Shown(origin, line)
        yield from self.due(now)
        while len(self._known) > MAX_KNOWN:
            yield from self._give(next(iter(self._known)))

    def _is_first(self, origin: Origin, line: str, now: float) -> bool:
        """Whether a line is shown as it comes; else it is counted."""
        kind = kind_of(line)
        if not kind:
            return True
        source = (origin.node, origin.pid)
        known = self._known.get(kind)
        if known is None:
            self._known[kind] = _Known(now, line, origin, sources={source})
            return True
        known.sources.add(source)
        if len(known.sources) == 1:
            return True
        known.line, known.origin = line, origin
        known.count += 1
        self.pending += 1
        return False

    def due(self, now: float) -> Iterator[Shown]:
        """What has been held back for the whole window."""
        while self._known:
            kind, known = next(iter(self._known.items()))
            if now - known.since < self.window_s:
                return
            folded = known.count > 1
            yield from self._give(kind)
            if folded:  # there will be more like it
                known.since = now
                self._known[kind] = known

    def wait_s(self, now: float) -> float | None:
        """In how long something is due; None where nothing is held back."""
        if not self.pending:
            return None
        first = next(known for known in self._known.values() if known.count)
        return max(0.0, first.since + self.window_s - now)

    def rest(self) -> Iterator[Shown]:
        """All that is held back."""
        while self._known:
            yield from self._give(next(iter(self._known)))

    def _give(self, kind: str) -> Iterator[Shown]:
        known = self._known.pop(kind)
        count, known.count = known.count, 0
        self.pending -= count
        if count:
            yield Shown(known.origin, known.line, count if count > 1 else 0)

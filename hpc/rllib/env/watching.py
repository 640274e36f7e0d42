"""Which env runners hang: a machine without clocks. It is told what runners are asked for, and what they say of it.

A runner that has not brought what it was asked for after some time is asked how many rows it has made. This is
answered by another thread of its process. It hangs where no answer comes for a while, or the number stays the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field

#: Times that a runner is asked within the time that it may hang.
LOOKS = 4


@dataclass
class _Runner:
    asked: dict[int, float] = field(default_factory=dict)
    """request: when it was made"""
    since: float | None = None
    """When a question was put that is not answered"""
    rows: int = -1
    moved: float = 0.0
    """When the number of rows was seen to change"""
    next_look: float = 0.0
    hangs: bool = False


class Watch:
    """``patience_s``: how long a sample may take before its runner is asked (None: for ever). ``timeout_s``: how long
    it may hang from then on."""

    def __init__(self, patience_s: float | None, timeout_s: float) -> None:
        self._patience_s, self._timeout_s = patience_s, timeout_s
        self._runners: dict[int, _Runner] = {}

    def ask(self, runner: int, request: int, now: float) -> None:
        """A runner is asked for a sample."""
        if self._patience_s is not None:
            self._runners.setdefault(runner, _Runner()).asked[request] = now

    def answer(self, runner: int, request: int) -> None:
        """It has brought that."""
        found = self._runners.get(runner)
        if found is not None and found.asked.pop(request, None) is not None:
            self._runners[runner] = _Runner(found.asked, found.since)

    def forget(self, runner: int) -> None:
        """It has ended, or failed."""
        self._runners.pop(runner, None)

    def told(self, runner: int, rows: int, now: float) -> None:
        """It says how many rows it has made in its life. A runner of the user's that counts none is taken at its
        word."""
        found = self._runners.get(runner)
        if found is None:
            return
        # Its answer may have lain unread: it says nothing of what was later than the question.
        asked, found.since = found.since, None
        if rows != found.rows or not rows:
            found.rows, found.moved = rows, now
        found.hangs = asked is not None and asked - found.moved >= self._timeout_s

    def look(self, now: float) -> tuple[list[int], list[int]]:
        """Runners that are to be asked how many rows they have made, and those that hang."""
        asks, hang = [], []
        for runner, found in self._runners.items():
            if found.hangs or (found.since is not None and now - found.since >= self._timeout_s):
                hang.append(runner)
            elif found.since is None and now >= found.next_look and self._is_late(found, now):
                found.since, found.next_look = now, now + self._timeout_s / LOOKS
                asks.append(runner)
        return asks, hang

    def _is_late(self, found: _Runner, now: float) -> bool:
        assert self._patience_s is not None
        return bool(found.asked) and now - min(found.asked.values()) >= self._patience_s

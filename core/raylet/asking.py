"""Which processes were asked for what they keep in the arena only in case they need it again: pins and spans. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable


class Asking:
    """Asks each process once, until it keeps something anew. ``send(proc)`` asks."""

    def __init__(self, send: Callable[[int], None]) -> None:
        self._send = send
        self._asked: set[int] = set()
        #: The processes that have not answered.
        self.unanswered: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self.unanswered)

    def ask(self, procs: Iterable[int]) -> None:
        """Ask these, but for those that were asked before."""
        for proc in sorted(proc for proc in procs if proc and proc not in self._asked):
            self._asked.add(proc)
            self.unanswered.add(proc)
            self._send(proc)

    def answered(self, proc: int) -> None:
        """A process has given back what it could."""
        self.unanswered.discard(proc)

    def keeps(self, proc: int) -> None:
        """A process keeps something anew."""
        self._asked.discard(proc)

    def gone(self, proc: int) -> None:
        """A process has ended."""
        self._asked.discard(proc)
        self.unanswered.discard(proc)

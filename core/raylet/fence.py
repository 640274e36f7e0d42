"""When a raylet must end its node because the head may have declared it dead.

The head counts from the last report that it heard. The raylet cannot know when that was, but it knows when it sent the
last report that was acknowledged, which is earlier; `fence_s` after that it ends, ahead of the head's `dead_s`. Reports
have numbers, so an acknowledgement that was long on its way counts for the report it answers, not for the present.

A raylet that was stopped itself for that long sends one more report and waits for a moment: if the head was stopped
with it (a suspended job) it gets its answer.

Rejected: counting from the oldest unanswered report since the last acknowledgement came (as it was): an old one that
came late gave a node more time than the head did, and two incarnations of an actor could write at once.
"""

from __future__ import annotations

from collections import deque

#: The part of `fence_s` that a report made after a pause may wait for its answer.
PATIENCE = 1 / 8


class Fence:
    """The reports of a raylet that were not acknowledged yet."""

    __slots__ = ("_acked_sent_at", "_sent", "beat", "fence_s")

    def __init__(self, fence_s: float) -> None:
        self.fence_s = fence_s
        self.beat = 0
        self._sent: deque[tuple[int, float]] = deque()
        self._acked_sent_at: float | None = None

    def report(self, now: float) -> int:
        """A report is sent; returns its number."""
        self.beat += 1
        self._sent.append((self.beat, now))
        if self._acked_sent_at is None:
            self._acked_sent_at = now
        return self.beat

    def acked(self, beat: int) -> None:
        """The head has heard this report, and so all before it."""
        while self._sent and self._sent[0][0] <= beat:
            self._acked_sent_at = self._sent.popleft()[1]

    def why(self, now: float) -> str:
        """Why the node has to end; empty if it has not."""
        if not self._sent or self._acked_sent_at is None:
            return ""
        silent = now - self._acked_sent_at
        if silent > self.fence_s and now - self._sent[0][1] > self.fence_s * PATIENCE:
            return f"no answer from the head for {silent:.0f} s"
        return ""

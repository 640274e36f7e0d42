"""When a raylet must end its node because the head may have declared it dead.

The head counts from the last report that it heard. The raylet cannot know when that was. It knows when it sent the last
report that was acknowledged, which is earlier. `fence_s` after that it ends, ahead of the head's `dead_s`. Reports have
numbers, so an acknowledgement that was long on its way counts for the report it answers, not for the present.

A raylet that was stopped itself for that long waits for a moment, counted in its own turns, for an answer to its last
report. If the head was stopped with it, as in a suspended job, it gets one.

Rejected: counting from the oldest unanswered report since the last acknowledgement came, as it was. An old
acknowledgement that came late gave a node more time than the head did. Two incarnations of an actor could write at
once.
"""

from __future__ import annotations

from collections import deque

#: The part of `fence_s` that a report may wait for its answer in any case, on the raylet's own clock.
PATIENCE = 1 / 8
#: Of the time between two turns of the raylet no more than this counts on that clock: for the rest it was stopped.
TURN_S = 2.0


class Fence:
    """The reports of a raylet that were not acknowledged yet."""

    __slots__ = ("_acked_sent_at", "_awake_s", "_now", "_sent", "beat", "fence_s", "turn_s")

    def __init__(self, fence_s: float, heartbeat_s: float = 1.0) -> None:
        self.fence_s = fence_s
        self.turn_s = max(TURN_S, 2 * heartbeat_s)
        self.beat = 0
        #: Number, when it was sent, and when that was on the raylet's own clock.
        self._sent: deque[tuple[int, float, float]] = deque()
        self._acked_sent_at: float | None = None
        self._now = self._awake_s = 0.0

    def report(self, now: float) -> int:
        """A report is sent; returns its number."""
        self._turn(now)
        self.beat += 1
        self._sent.append((self.beat, now, self._awake_s))
        if self._acked_sent_at is None:
            self._acked_sent_at = now
        return self.beat

    def acked(self, beat: int) -> None:
        """The head has heard this report, and so all before it."""
        while self._sent and self._sent[0][0] <= beat:
            self._acked_sent_at = self._sent.popleft()[1]

    def why(self, now: float) -> str:
        """Why the node has to end; empty if it has not. Asked in every turn of the raylet."""
        self._turn(now)
        if not self._sent or self._acked_sent_at is None:
            return ""
        silent = now - self._acked_sent_at
        if silent > self.fence_s and self._awake_s - self._sent[0][2] > self.fence_s * PATIENCE:
            return f"no answer from the head for {silent:.0f} s"
        return ""

    def _turn(self, now: float) -> None:
        turn, self._now = now - self._now, now
        self._awake_s += turn if turn < self.turn_s else self.turn_s

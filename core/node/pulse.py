"""Whether a child of a supervisor still turns its loop: it is asked over its control socket, and answers.

Time is counted in turns of the supervisor, not by the clock. The time of ten questions makes the limit, and one turn
counts once however late it comes. So nobody is killed where a machine was stopped, or is so slow that the supervisor
itself does not run. A child is given up only after the supervisor had nine turns, evenly spread, without an answer.

Rejected: a heartbeat that the child sends by itself: a thread of it would go on beating beside a loop that hangs.
Rejected too: the CPU time of the child. A child that is stopped uses none, but one that hangs in a loop does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpc.core.node.settings import setting
from hpc.core.node.times import fault_times

TURNS = 10


class Pulse:
    """The questions to one child. `turn` says what to do now, and sets `next_at`."""

    __slots__ = ("_asked", "_silent", "limit_s", "next_at")

    def __init__(self, limit_s: float, now: float) -> None:
        self.limit_s = limit_s
        self.next_at = now + limit_s / TURNS
        self._asked = False
        self._silent = 0

    def answered(self) -> None:
        """The child has answered."""
        self._asked = False

    def turn(self, now: float) -> str:
        """ "ask" it, give it up as "hung", or "" nothing."""
        if now < self.next_at:
            return ""
        self.next_at = now + self.limit_s / TURNS
        if not self._asked:
            self._asked, self._silent = True, 0
            return "ask"
        self._silent += 1
        return "hung" if self._silent >= TURNS - 1 else ""


def pulse_of(name: str, config: Mapping[str, Any], now: float) -> Pulse | None:
    """The pulse of a child that has begun to listen, if it has to have one."""
    limit_s = setting("head_hang_s", config) if name == "head" else fault_times(config).fence_s
    return Pulse(limit_s, now) if limit_s else None


def answered(pulse: Pulse | None, name: str, config: Mapping[str, Any], now: float) -> Pulse | None:
    """A child has answered; its pulse from now on. The zygote's first answer comes unasked, when it has imported what
    workers need: that may take long."""
    if pulse is not None:
        pulse.answered()
    return pulse_of(name, config, now) if pulse is None and name == "zygote" else pulse

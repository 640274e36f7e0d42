"""When the ranks are to save, and when a run ends or begins anew with what they have saved. Pure: no I/O, no clock.

All ranks are told at the same report that the next one is to have a checkpoint, so they save at one step. There are
three reasons: the session ends, nodes with ranks are taken away, or there is room for more ranks.
"""

from __future__ import annotations

from typing import Literal

#: The last seconds of a job: its script is asked to end, and nodes may go.
END_S = 10.0

Ending = Literal["", "drained", "preempted", "resized"]


class Course:
    """One attempt, from its first step to its end. Times are seconds of any clock that does not go back.

    size: the number of ranks. most: as many are wanted. interval_s: so often one looks for room. named: the run has a
    name, by which the next session finds it.
    """

    def __init__(self, now_s: float, size: int, most: int, interval_s: float, named: bool) -> None:
        self._size = size
        self._most = most
        self._interval_s = interval_s
        self._named = named
        self._looked_s = self._since_s = now_s
        self._step_s = self._save_s = 0.0
        self._room = size
        self.drains = False
        self.left_s: float | None = None
        self.preempted = False

    def wants_to_look(self, now_s: float) -> bool:
        """Whether it is time to look for room for more ranks."""
        if self._size >= self._most or now_s - self._looked_s < self._interval_s:
            return False
        self._looked_s = now_s
        return True

    def found(self, room: int) -> None:
        """This number of ranks would have room, those that there are included."""
        self._room = room

    def met(self, now_s: float) -> None:
        """All ranks are in a report: a step is done, and the next one begins unless they wait there."""
        self._step_s = max(self._step_s, now_s - self._since_s)
        self._since_s = now_s

    def completed(self, now_s: float, met_s: float, waited: bool) -> None:
        """The report that was met then is kept, and its checkpoint stored. waited: the ranks have waited for that."""
        self._save_s = max(self._save_s, now_s - met_s)
        if waited:
            self._since_s = now_s

    @property
    def must_save(self) -> bool:
        """Whether the next report is to have a checkpoint. Without one, the report after that may come too late."""
        late = self.left_s is not None and self.left_s < 2 * self._step_s + self._save_s + END_S
        return self.drains or self.preempted or late or self._grows

    @property
    def ending(self) -> Ending:
        """What comes after a checkpoint that was just stored; "" to go on."""
        if self.drains:
            return "drained" if self._named else ""
        if self.preempted:
            return "preempted"
        return "resized" if self._grows else ""

    @property
    def _grows(self) -> bool:
        return min(self._room, self._most) > self._size

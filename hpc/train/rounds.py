"""Where the ranks of a run are: pure decisions about reports, collective calls and the end.

Reports begin when every rank is in them, and are complete when every rank that has a part of the checkpoint has brought
it. They become complete in the order in which they began. A rank may be several reports ahead of the one whose
checkpoint is still on its way.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from hpc.train.events import Asked, Brought, Gone, Joined, Reported, Returned

#: The call that all ranks meet in, and to which the driver has the answer.
PREEMPTION_INFO = "get_preemption_info"


class Uneven(Exception):
    """The ranks wait for each other in different calls, or some have returned: the first such rank, and why."""

    def __init__(self, rank: int, text: str) -> None:
        super().__init__(text)
        self.rank = rank


@dataclass
class Round:
    """A report of all ranks: what each of them said, and what each has brought, by rank."""

    number: int
    reports: dict[int, Reported]
    brought: dict[int, Brought] = field(default_factory=dict)
    begun: bool = False

    @property
    def parts(self) -> set[int]:
        """The ranks that have a part of the checkpoint."""
        return {rank for rank, one in self.reports.items() if one.way is not None}

    @property
    def is_complete(self) -> bool:
        """Whether all that belongs to it is there."""
        return self.begun and self.parts <= self.brought.keys()

    @property
    def waits(self) -> bool:
        """Whether the ranks stay in the report until the checkpoint is stored: none of its parts is brought beside the
        training."""
        return all(one.waits for one in self.reports.values() if one.way is not None)


class Rounds:
    """The state of the ranks of one attempt. relaxed: as long as rank 0 is there, reports do not wait for ranks that
    are gone. Nor does the question for nodes that are taken away."""

    def __init__(self, world: int, relaxed: bool = False) -> None:
        self.world = world
        self.gone: set[int] = set()
        self._relaxed = relaxed
        self.returned: dict[int, Returned] = {}
        self.open: deque[Round] = deque()
        self.completed = 0
        self._at: dict[int, Reported | Joined] = {}
        self._asked: list[tuple[int, Asked]] = []

    @property
    def is_over(self) -> bool:
        """Whether all ranks that are there have returned, and no report is open."""
        return len(self.returned) + len(self.gone) == self.world and not self.open

    def take(self, rank: int, event: Any) -> Round | list[Joined] | None:
        """An event of a rank. Returns the report that begins with it, or the collective call, by rank, that ends.

        Raises Uneven when the ranks would wait for each other without end."""
        if isinstance(event, Brought):
            for one in self.open:
                if one.number == event.number:
                    one.brought[rank] = event
        elif isinstance(event, Asked):
            self._asked.append((rank, event))
        elif isinstance(event, Returned):
            self.returned[rank] = event
            return self._meet()
        elif isinstance(event, Gone):
            return self._lose(rank)
        else:
            self._at[rank] = event
            return self._meet()
        return None

    def _lose(self, rank: int) -> Round | list[Joined] | None:
        """A checkpoint of which this rank had a part that it has not brought will never be whole."""
        self.gone.add(rank)
        self._at.pop(rank, None)
        for one in self.open:
            if rank in one.parts:
                one.brought.setdefault(rank, Brought(one.number, failure="its node was taken away"))
        return self._meet()

    def _absent(self) -> int:
        """How many ranks those that wait need not wait for."""
        relaxable = all(isinstance(at, Reported) or at.what == PREEMPTION_INFO for at in self._at.values())
        return len(self.gone) if self._relaxed and relaxable and 0 not in self.gone else 0

    def _meet(self) -> Round | list[Joined] | None:
        if not self._at or len(self._at) + len(self.returned) + self._absent() < self.world:
            return None
        first = min(self._at)
        if self.returned:
            raise Uneven(
                first, f"rank {first} waits in {self._where(first)}, but rank {min(self.returned)} has returned"
            )
        for rank in sorted(self._at):
            if self._where(rank) != self._where(0):
                raise Uneven(0, f"rank 0 waits in {self._where(0)}, but rank {rank} in {self._where(rank)}")
        events = {rank: self._at[rank] for rank in sorted(self._at)}
        self._at.clear()
        reports = {rank: one for rank, one in events.items() if isinstance(one, Reported)}
        if reports:
            self.open.append(Round(reports[0].number, reports))
            return self.open[-1]
        return [one for one in events.values() if isinstance(one, Joined)]

    def _where(self, rank: int) -> str:
        event = self._at[rank]
        if isinstance(event, Reported):
            return f"its report number {event.number}"
        return f"{event.what}(), its call number {event.number}"

    def next_complete(self) -> Round | None:
        """The next report, in their order, if it is complete; it is taken out."""
        if not self.open or not self.open[0].is_complete:
            return None
        self.completed = self.open[0].number
        return self.open.popleft()

    def answerable(self, validating: bool) -> list[tuple[int, Asked]]:
        """The ranks that can be told the checkpoints now. They are taken out."""
        able = [
            (rank, one) for rank, one in self._asked
            if self.completed >= one.reports and not (validating and one.validated)
        ]  # fmt: skip
        self._asked = [one for one in self._asked if one not in able]
        return able

    def is_waiting(self, rank: int) -> bool:
        """Whether a rank waits for the others, in a report or a collective call."""
        return rank in self._at

    def may_speak(self, rank: int) -> bool:
        """Whether an event of this rank can come before it is told anything."""
        if rank in self.returned or rank in self.gone:
            return False
        if rank not in self._at:
            return True
        return any(rank in one.parts and rank not in one.brought for one in self.open)

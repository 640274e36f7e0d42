"""One attempt's way to its end, from the driver: when ranks are to save, and when all begin anew with what they have.

`hpc.train.course` decides; here it gets to know the time that is left, the nodes that leave, and the room for more.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple, NoReturn

import hpc
from hpc.runs.config import FailureConfig
from hpc.runs.storage import say
from hpc.train.config import ScalingConfig
from hpc.train.course import Course
from hpc.train.errors import Drained, PreemptionError, Resized
from hpc.train.events import Leaving
from hpc.train.preemption import PreemptionInfo
from hpc.train.ranks import Identity
from hpc.train.room import Room


class Told(NamedTuple):
    """What all ranks are told with a report that they met in at ``met_s``, by time.monotonic(). ``gone_on``: they have
    heard it, and do not wait until the report is complete."""

    must_save: bool
    met_s: float
    gone_on: bool = False


class Pilot:
    """What the ranks of one attempt are told beside their checkpoints. ``info``: their nodes that are taken away.
    ``relaxed``: reports need not wait for ranks that have gone with these."""

    def __init__(
        self, ranks: Sequence[Identity], room: Room, scaling: ScalingConfig, failures: FailureConfig, named: bool
    ) -> None:
        self.info: PreemptionInfo | None = None
        self.relaxed = failures.relax_collectives_on_preemption
        self._grace_s = failures.preemption_grace_s
        self._gone: set[int] = set()
        self._until_s = 0.0
        self._ranks = ranks
        self._room = room
        interval_s = scaling.elastic_resize_monitor_interval_s
        self._course = Course(time.monotonic(), len(ranks), scaling.max_workers, interval_s, named)

    def heard(self, rank: int, event: Leaving) -> None:
        """The node of this rank leaves."""
        node = self._ranks[rank].node
        ranks = [one.world_rank for one in self._ranks if one.node == node]
        deadline = None if event.left_s is None else int((time.time() + event.left_s) * 1000)
        self.info = PreemptionInfo(deadline, {node: ranks}).and_also(self.info)
        self._course.preempted = True

    def spared(self) -> Collection[int]:
        """The ranks whose death does not end the attempt at once: the others may bring to its end what they are at."""
        return self.info.preempted_ranks if self.info is not None and (self.relaxed or self._grace_s) else ()

    def lost(self, rank: int) -> None:
        """A spared rank has died. The others have until the deadline, and the time of grace beyond it."""
        assert self.info is not None
        say(f"rank {rank} has gone with its node" + (", and rank 0 is needed for a report" if rank == 0 else ""))
        self._gone.add(rank)
        deadline_s = (self.info.deadline_ms or 0) / 1000 - time.time()
        self._until_s = time.monotonic() + max(0.0, deadline_s) + self._grace_s

    def finished(self) -> None:
        """All ranks that are there have returned. Raises PreemptionError if others are gone: what they would have done
        is missing."""
        if self._gone and self.info is not None:
            raise PreemptionError(self.info)

    def look(self) -> None:
        """About once a second. Raises PreemptionError when the time of those that are left is over."""
        if self._gone and self.info is not None and time.monotonic() >= self._until_s:
            raise PreemptionError(self.info, drain_timed_out=True)
        if self._course.wants_to_look(time.monotonic()):
            self._course.found(self._room.could_hold())

    def met(self) -> Told:
        """All ranks are in a report."""
        now_s = time.monotonic()
        self._course.met(now_s)
        return self._tell(now_s)

    def completed(self, told: Told, checkpoint: str | None) -> Told:
        """A report is complete, and its checkpoint stored if it had one. Returns what the ranks are told.

        Ranks that have gone on hear nothing new: they are ahead of a checkpoint that may not be the one asked for.

        Raises what ends the attempt with this checkpoint: Drained, PreemptionError, Resized.
        """
        course = self._course
        course.completed(time.monotonic(), told.met_s, not told.gone_on)
        if not told.gone_on:
            told = self._tell(told.met_s)
        if told.must_save and checkpoint is not None:
            if course.ending == "resized":
                course.found(self._room.could_hold())  # what was there may have been taken
            self._end(os.path.basename(checkpoint))
            told = told if told.gone_on else told._replace(must_save=course.must_save)
        return told

    def _tell(self, met_s: float) -> Told:
        context, course = hpc.get_runtime_context(), self._course
        course.drains, course.left_s = context.draining() is not None, context.time_left_s()
        return Told(course.must_save, met_s)

    def _end(self, name: str) -> None:
        ending = self._course.ending
        if ending == "drained":
            drained(f"the session drains; {name} is stored, the run goes on from it")
        if ending == "preempted":
            assert self.info is not None
            raise PreemptionError(self.info)
        if ending == "resized":
            raise Resized(f"there is room for more than {len(self._ranks)} workers")

    def were_preempted(self, failed: Iterable[int]) -> bool:
        """Whether one of these ranks was on a node that is taken away, or has lost one that was."""
        if self.info is None:
            return False
        return bool(self._gone) or not set(failed).isdisjoint(self.info.preempted_ranks)


def drained(what: str) -> NoReturn:
    """Say so, and end the run."""
    say(what)
    raise Drained(what)

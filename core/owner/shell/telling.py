"""A process tells its raylet what it has counted, and how its runs stand: every two seconds, and when it ends."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from hpc.core.metrics.sample import gauge
from hpc.core.metrics.table import TASKS_UNFINISHED
from hpc.core.metrics.tally import Tally
from hpc.core.node.settings import switch
from hpc.core.owner.shell.bulletins import BulletinTelling

if TYPE_CHECKING:
    from hpc.core.owner.machine import OwnerMachine


class Telling:
    """One process's. Its methods are called with the client's lock held."""

    def __init__(self, machine: OwnerMachine) -> None:
        self.on = switch("metrics", {}, os.environ)
        self.tally = Tally()
        self.bulletins = BulletinTelling(machine)
        self._machine = machine

    def tick(self, now: float) -> None:
        """Tell, if it is time."""
        if self.on:
            self.tally.settle()
            if self.tally.is_due(now):
                self.tell(now)
        self.bulletins.tick(now)

    def last(self) -> None:
        """Leave what is there to tell before the process leaves."""
        self._machine.objects.drain_dropped()
        self.tell()
        self.bulletins.last()

    def tell(self, now: float | None = None) -> None:
        """Leave in the machine what has changed, if anything has. Without a time the process ends after it."""
        if now is None:
            self._machine.events.leave()
            self._machine.ended_actors.leave()
        if not self.on:
            return
        machine = self._machine
        state = machine.state
        in_runs = sum(len(run.entries) - run.done for run in machine.calls.runs.unfinished.values())
        unfinished = len(state.tasks) + len(state.calls) + in_runs
        news = self.tally.news(time.monotonic() if now is None else now, [gauge(TASKS_UNFINISHED, unfinished)])
        if news is not None:
            machine.send(machine.raylet, news)

"""What others are told of a run while it goes on, and after its end: its operators, budgets and stalls. See
`hpc.spi.tell_run`.

A run that is over within a moment is told of to nobody. What is told is made of the machine by another thread, which
changes nothing there. At the end it is made once more, and the machine is let go.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from hpc import spi
from hpc.data.exec.machine import Machine
from hpc.data.exec.operators.maps import OutputOperator
from hpc.data.exec.progress import Progress
from hpc.data.exec.rooms import Memory
from hpc.data.exec.stall import why_stands
from hpc.data.exec.stats import State, stats_of
from hpc.exceptions import HpcError
from hpc.spi import bulletins

#: Operators and nodes that are told of.
MAX_OPERATORS, MAX_NODES = 100, 100


class DataTelling:
    """What is told of one run. ``waited``: the seconds for which its consumer has waited until now."""

    def __init__(self, machine: Machine, progress: Progress, memory: Memory, waited: Callable[[], float]) -> None:
        self._machine: Machine | None = machine
        self._progress, self._memory, self._waited = progress, memory, waited
        self._began_s, self._began = time.time(), time.monotonic()
        self._is_over = False
        self._error: BaseException | None = None
        self._told: spi.ToldRun | None = None

    def begin(self) -> None:
        """The run goes on for longer than a moment."""
        if self._told is None:
            self._told = spi.tell_run(self.brief, self.detail)

    def end(self, error: BaseException | None) -> None:
        """The run is over. It raises nothing: whoever waits for blocks has to hear of the end."""
        self._is_over, self._error = True, error
        if self._told is not None:
            with contextlib.suppress(HpcError, OSError):  # the session may be over too
                self._told.end()
        self._machine = self._error = None  # its traceback holds blocks

    # -------------------------------------------------------------- what is told: in another thread

    def brief(self) -> bulletins.Brief:
        """In short."""
        machine = self._machine
        assert machine is not None
        facts = self._progress.facts(time.monotonic())
        done, parts = facts.parts
        share = min(1.0, done / parts) if parts else None
        numbers: dict[str, float] = {"rows": facts.rows}
        if facts.seconds > 0:
            numbers["rows_per_second"] = round(facts.rows / facts.seconds, 1)
        if parts:
            numbers |= {"parts": parts, "parts_done": done}
        state, why = self._standing(machine)
        ended_s = time.time() if self._is_over else None
        left_s = facts.seconds * (1 - share) / share if share and not self._is_over else None
        return bulletins.Brief(
            "data", facts.name, state, why, self._began_s, ended_s, done=share, left_s=left_s, numbers=numbers
        )

    def _standing(self, machine: Machine) -> tuple[bulletins.RunState, str]:
        """Its state, and why."""
        if not self._is_over:
            return "RUNNING", _stands(machine)
        if self._progress.interrupted or self._progress.closed:
            return "STOPPED", "no more of it was wanted"
        return ("FINISHED", "") if self._error is None else ("FAILED", spi.said(self._error))

    def _stats(self, machine: Machine) -> str:
        state: State = "finished" if self._error is None else "failed"
        passed_s, moved = time.monotonic() - self._began, self._memory.moved(0.0)
        return str(stats_of(machine, self._progress.name, passed_s, self._waited(), state, moved=moved))

    def detail(self) -> bulletins.DataDetail:
        """All that is told."""
        machine = self._machine
        assert machine is not None
        facts, budget = self._progress.facts(time.monotonic()), machine.budget
        ops = [op for op in machine.ops if not isinstance(op, OutputOperator)]
        rows = [
            bulletins.OperatorRow(
                one.name, one.state, one.tasks, one.queued, one.blocks, one.rows, one.nbytes, one.rows_s, one.waits,
                one.actors, int(op.tally.spilled), op.tally.errored,
            )
            for one, op in zip(facts.operators, ops, strict=False)
        ]  # fmt: skip
        nodes = [
            bulletins.StoreRow(name, use.held, use.reserved, use.room.store, use.heap, use.room.heap)
            for name, use in list(budget.nodes.items())[:MAX_NODES]
        ]
        return bulletins.DataDetail(
            facts.rows, facts.nbytes, facts.read_bytes, *facts.parts, budget.held, budget.limit, budget.peak,
            sum(row.spilled_bytes for row in rows), *facts.cpus, *facts.gpus, rows[:MAX_OPERATORS], nodes,
            "" if self._is_over else _stands(machine), self._stats(machine) if self._is_over else "",
        )  # fmt: skip


def _stands(machine: Any) -> str:
    """Why nothing moves; "" while something does."""
    return why_stands(machine.ops, machine.pools, machine.why, machine.free, machine.now)

"""What people see of the runs of a process while they run, on standard error.

On a terminal, and below the cell of a notebook, the lines of all runs are drawn in their place. Elsewhere, as in a log,
each run gives a line now and then. Workers show nothing but warnings: ranks and trials that each
read a dataset would say the same. What shares a dataset between ranks speaks for all of them (`speak_here`).
"""

from __future__ import annotations

import atexit
import contextlib
import sys
import threading
import time
from typing import Any

from hpc import spi
from hpc.data.exec import layout
from hpc.data.exec.layout import OperatorFacts, OperatorState, RunFacts
from hpc.data.exec.machine import Machine
from hpc.data.exec.operators.maps import OutputOperator, ReadOperator
from hpc.data.exec.screens import Screen, screen_here
from hpc.data.exec.waits import Wait

#: Elsewhere than on a terminal the first line comes after so long, and each next one after twice as long as the one
#: before, up to a limit. ``DataContext.set_config("progress_interval_s", seconds)`` makes the time fixed.
LINE_S, LONGEST_S = 10.0, 160.0
#: A terminal shows a run that takes longer than this, and is drawn this often.
SHOWN_AFTER_S, DRAW_S = 0.5, 0.25


class Progress:
    """What is shown of one run."""

    def __init__(self, name: str, context: Any) -> None:
        self.name = name
        verbose = context.execution_options.verbose_progress
        self.operators = bool(context.enable_operator_progress_bars) and verbose is not False
        self.truncates = bool(context.enable_progress_bar_name_truncation)
        self.shows = bool(context.enable_progress_bars) and (_speaks or spi.whoami().kind != "worker")
        self.machine: Machine | None = None
        self.began = self.due = 0.0
        self.wrote = False
        #: The user has interrupted the run, or its session has ended: it did not fail by itself.
        self.interrupted = False
        #: No more was wanted of it before its end.
        self.closed = False
        fixed = context.get_config("progress_interval_s")
        self.fixed = fixed is not None
        self.each = LINE_S if fixed is None else max(DRAW_S, float(fixed))

    def say(self, text: str) -> None:
        """Something that people should know."""
        print(f"{self.name}: {text}", file=sys.stderr, flush=True)

    def begin(self, machine: Machine, now: float) -> None:
        """The run begins."""
        self.machine, self.began, self.due = machine, now, now + self.each
        if self.shows:
            BOARD.add(self)

    def ended(self, machine: Machine, now: float, error: BaseException | None) -> None:
        """The run is over: a last line, where others came before."""
        if self.shows and BOARD.remove(self):
            facts = facts_of(machine, self.name, now - self.began)
            self.say(layout.last(facts, error, self.interrupted, self.closed).partition(": ")[2])

    def facts(self, now: float) -> RunFacts:
        """Its facts now."""
        assert self.machine is not None
        return facts_of(self.machine, self.name, now - self.began)


_speaks = False


def speak_here() -> None:
    """Have this worker show the progress of its runs: it alone runs what several ranks read."""
    global _speaks
    _speaks = True


class Board:
    """The runs of this process, and the thread that shows them while there are some. It looks at the machines of runs
    from aside, and changes nothing there."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: list[Progress] = []
        self._thread: threading.Thread | None = None
        self._change = threading.Event()
        self._screen: Screen | None = None

    def add(self, run: Progress) -> None:
        """A run begins."""
        with self._lock:
            self._runs.append(run)
            if self._thread is None:
                self._thread = threading.Thread(target=self._show, name="hpc-data-progress", daemon=True)
                self._thread.start()
        self._change.set()

    def remove(self, run: Progress) -> bool:
        """A run has ended. Whether something of it was shown."""
        with self._lock:
            if run in self._runs:
                self._runs.remove(run)
            if not self._runs:
                self._close()
        self._change.set()
        return run.wrote

    def close(self) -> None:
        """Leave the terminal as it was."""
        with self._lock:
            self._runs.clear()
            self._close()
        self._change.set()

    def _close(self) -> None:
        screen, self._screen = self._screen, None
        if screen is not None:
            with contextlib.suppress(Exception):
                screen.stop()

    def _show(self) -> None:
        while True:
            with self._lock:
                if not self._runs:
                    self._thread = None
                    return
                try:
                    wait = self._look(time.monotonic())
                except Exception as error:  # what is shown must not end what is run
                    print(f"hpc.data: progress is not shown any more: {error!r}", file=sys.stderr)
                    self._runs.clear()
                    self._close()
                    continue
                self._change.clear()
            self._change.wait(wait)

    def _look(self, now: float) -> float:
        """Show what is to be shown now. Returns after how many seconds there is more."""
        if self._screen is None:
            self._screen = screen_here()
        if self._screen is not None:
            self._draw(now)
            return DRAW_S
        for run in self._runs:
            if now >= run.due:
                run.wrote = True
                run.each = run.each if run.fixed else min(LONGEST_S, 2 * run.each)
                run.due = now + run.each
                print(layout.line(run.facts(now), run.operators, run.truncates), file=sys.stderr, flush=True)
        return max(0.0, min(run.due for run in self._runs) - now)

    def _draw(self, now: float) -> None:
        shown = [run for run in self._runs if now - run.began >= SHOWN_AFTER_S]
        if not shown or self._screen is None:
            return
        lines: list[str] = []
        for run in shown:
            run.wrote = True
            lines += layout.block(run.facts(now), self._screen.width, run.operators, run.truncates)
        self._screen.draw(lines)


BOARD = Board()
atexit.register(BOARD.close)


def facts_of(machine: Machine, name: str, seconds: float) -> RunFacts:
    """What is to be seen of a run now. Any thread may ask."""
    budget, output = machine.budget, machine.output
    ops = [op for op in machine.ops if not isinstance(op, OutputOperator)]
    read = total = size = 0
    known = True
    for op in ops:
        if isinstance(op, ReadOperator):
            read, total, size = read + op.parts_read, total + op.parts_told, size + op.bytes_read
            known = known and op.closed[0]
    return RunFacts(
        name=name,
        seconds=seconds,
        rows=output.tally.rows,
        nbytes=output.tally.bytes,
        parts=(read, total if known and total else None),
        read_bytes=size,
        store=(budget.held, budget.limit),
        cpus=(machine.cpus_used, budget.cpus),
        gpus=(machine.gpus_used, budget.gpus),
        operators=tuple(_operator(machine, op, seconds) for op in ops),
    )


def _operator(machine: Machine, op: Any, seconds: float) -> OperatorFacts:
    tally, pool, why = op.tally, machine.pools.get(op.index), machine.why(op)
    begun = tally.submitted or tally.blocks or op.running
    state: OperatorState = "done" if op.told_over else "running" if begun else "queued"
    return OperatorFacts(
        name=op.name,
        state=state,
        tasks=len(op.running),
        queued=0 if op.told_over else op.waiting() + len(op.again),
        blocks=tally.blocks,
        rows=tally.rows,
        nbytes=tally.bytes,
        rows_s=tally.rows / seconds if seconds > 0 else 0.0,
        waits="" if why is Wait.NOTHING or op.told_over else why.value,
        actors="" if pool is None or op.told_over else f"{pool.count - pool.starting} of {pool.count} actors",
    )

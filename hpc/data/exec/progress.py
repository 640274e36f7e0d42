"""What people see of a run while it runs: a line now and then, in rows and bytes, and why it waits if it does."""

from __future__ import annotations

import sys
from typing import Any

from hpc.data.exec.machine import Machine
from hpc.data.exec.operators.maps import OutputOperator
from hpc.data.exec.waits import Wait
from hpc.data.options import memory_text

#: Where nobody looks at a terminal, a line comes this often; with one more often.
LINE_S, TERMINAL_S = 30.0, 5.0


class Progress:
    """Writes to standard error. Nothing for runs that take no time."""

    def __init__(self, name: str, context: Any) -> None:
        self._name = name
        self._shows = bool(context.enable_progress_bars)
        self._each = TERMINAL_S if sys.stderr.isatty() else LINE_S
        self._next = self._began = 0.0
        self._wrote = False

    def say(self, text: str) -> None:
        """Something that people should know."""
        print(f"{self._name}: {text}", file=sys.stderr, flush=True)

    def look(self, machine: Machine, now: float) -> None:
        """Write a line if it is time for one."""
        if not self._began:
            self._began, self._next = now, now + self._each
        elif self._shows and now >= self._next:
            self._next = now + self._each
            self._wrote = True
            self.say(f"{now - self._began:.0f} s; " + "; ".join(lines(machine)))

    def ended(self, machine: Machine, now: float, error: BaseException | None) -> None:
        """The run is over: a last line, where others came before."""
        if self._wrote and error is None:
            tally = machine.output.tally
            self.say(f"done in {now - self._began:.0f} s, {tally.rows:,} rows, {memory_text(tally.bytes)}")


def lines(machine: Machine) -> list[str]:
    """What each operator has done, and is at."""
    found = []
    for op in machine.ops:
        if isinstance(op, OutputOperator):
            continue
        tally = op.tally
        text = f"{op.name} {tally.rows:,} rows, {memory_text(tally.bytes)}"
        if op.running:
            text += f", {len(op.running)} running"
        why = machine.why(op)
        if why is not Wait.NOTHING and not op.told_over:
            text += f", waits for {why.value}"
        found.append(text)
    return found

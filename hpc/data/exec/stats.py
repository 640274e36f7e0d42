"""Where the time of a run went: by operator, with what it waited for."""

from __future__ import annotations

from dataclasses import dataclass, field

from hpc.data.exec.machine import Machine
from hpc.data.exec.operators.maps import OutputOperator
from hpc.data.options import memory_text


@dataclass(frozen=True)
class OperatorStats:
    """One operator. seconds: of its bodies, over all tasks. waits: seconds without new work, by the reason."""

    name: str
    tasks: int
    blocks: int
    rows: int
    nbytes: int
    seconds: float
    errored: int
    retries: int
    counters: dict[str, float] = field(default_factory=dict)
    waits: dict[str, float] = field(default_factory=dict)

    def text(self) -> str:
        """Some lines for people."""
        rows_s = f", {self.rows / self.seconds:,.0f} rows/s of task time" if self.seconds > 0 else ""
        lines = [
            f"{self.name}: {self.tasks} tasks, {self.blocks} blocks, {self.rows:,} rows, {memory_text(self.nbytes)}",
            f"  task time {self.seconds:.2f} s{rows_s}",
        ]
        if self.errored or self.retries:
            lines.append(f"  left out {self.errored} parts that failed, began {self.retries} tasks again")
        waits = sorted(self.waits.items(), key=lambda one: -one[1])
        if waits:
            lines.append("  waited for " + ", ".join(f"{why} {seconds:.2f} s" for why, seconds in waits[:4]))
        for name, amount in sorted(self.counters.items()):
            lines.append(f"  {name} {amount:,.2f}")
        return "\n".join(lines)


@dataclass(frozen=True)
class RunStats:
    """A run, until now. consumer_s: seconds for which the consumer waited for blocks; wall_s: since it began."""

    name: str
    operators: tuple[OperatorStats, ...]
    wall_s: float
    consumer_s: float
    blocks: int
    rows: int
    nbytes: int
    peak_bytes: int

    def __str__(self) -> str:
        lines = [one.text() for one in self.operators]
        lines.append(
            f"{self.name}: {self.blocks} blocks, {self.rows:,} rows, {memory_text(self.nbytes)} "
            f"in {self.wall_s:.2f} s, "
            f"of which the consumer waited {self.consumer_s:.2f} s; at most {memory_text(self.peak_bytes)} at a time"
        )
        return "\n".join(lines)


def stats_of(machine: Machine, name: str, wall_s: float, consumer_s: float) -> RunStats:
    """The stats of a run that may still go on."""
    ops = tuple(
        OperatorStats(
            op.name, op.tally.works, op.tally.blocks, op.tally.rows, op.tally.bytes, op.tally.seconds, op.tally.errored,
            op.tally.retries, dict(op.tally.counters), {why.value: seconds for why, seconds in op.tally.waits.items()},
        )
        for op in machine.ops
        if not isinstance(op, OutputOperator)
    )  # fmt: skip
    out = machine.output.tally
    return RunStats(name, ops, wall_s, consumer_s, out.blocks, out.rows, out.bytes, machine.budget.peak)

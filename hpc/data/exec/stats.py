"""Where the time of a run went: by operator, with what it waited for. The lines have the forms that Ray's have."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from hpc.data.consume.times import GET, PARTS, WAIT, Times
from hpc.data.consume.times import time_text as _time
from hpc.data.exec.bodies import CPU_S
from hpc.data.exec.machine import Machine
from hpc.data.exec.operators.maps import OutputOperator
from hpc.data.exec.rooms import Moved
from hpc.data.options import memory_text

NOTHING = Moved()
State: TypeAlias = Literal["running", "finished", "failed"]


@dataclass(frozen=True)
class OperatorStats:
    """One operator. seconds: of its bodies, over all tasks; ``cpu_s``: of CPU among them. wall_s: from the first task
    to the end of the last. waits: seconds without new work, by the reason.

    queued_s and held_s: seconds of tasks before they began, and in which they waited until their blocks were taken.
    spilled, received: bytes of its blocks that went to disk, about; and of its inputs that came from other nodes.
    spans: the least and the most of one task (``seconds``), and of one block (``rows``, ``bytes``)."""

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
    cpu_s: float = 0.0
    wall_s: float = 0.0
    queued_s: float = 0.0
    held_s: float = 0.0
    spans: dict[str, tuple[float, float]] = field(default_factory=dict)
    nodes: dict[str, int] = field(default_factory=dict)
    rows_in: int = 0
    spilled: int = 0
    received: int = 0

    def text(self, number: int = 1) -> str:
        """Some lines for people."""
        head = f"Operator {number} {self.name}: {self.tasks} tasks executed, {self.blocks} blocks produced"
        lines = [f"{head} in {self.wall_s:.2f}s"]
        if self.tasks:
            least, most = self.spans.get("seconds", (0.0, 0.0))
            lines += [
                f"* Remote wall time: {_time(least)} min, {_time(most)} max, {_time(self.seconds / self.tasks)} mean, "
                f"{_time(self.seconds)} total",
                f"* Remote cpu time: {_time(self.cpu_s / self.tasks)} mean, {_time(self.cpu_s)} total",
                f"* Task scheduling time: {_time(self.queued_s / self.tasks)} mean, {_time(self.queued_s)} total",
                f"* Task output backpressure time: {_time(self.held_s / self.tasks)} mean, {_time(self.held_s)} total",
            ]
        if self.blocks:
            lines += [
                f"* Output num rows per block: {self._numbers('rows', self.rows)}",
                f"* Output size bytes per block: {self._numbers('bytes', self.nbytes)}",
            ]
        if self.nodes:
            each = self.nodes.values()
            mean = sum(each) // len(each)
            lines.append(f"* Tasks per node: {min(each)} min, {max(each)} max, {mean} mean; {len(each)} nodes used")
        if self.spilled:
            lines.append(f"* Spilled to disk: about {memory_text(self.spilled)}")
        if self.received:
            lines.append(f"* Inputs from other nodes: {memory_text(self.received)}")
        if self.errored or self.retries:
            lines.append(f"* Left out {self.errored} parts that failed, began {self.retries} tasks again")
        waits = sorted(self.waits.items(), key=lambda one: -one[1])
        if waits:
            lines.append("* Waited for " + ", ".join(f"{why} {_time(seconds)}" for why, seconds in waits[:4]))
        lines += [f"* {name}: {amount:,.2f}" for name, amount in sorted(self.counters.items())]
        lines += [
            "* Operator throughput:",
            f"\t* Total input num rows: {self.rows_in} rows",
            f"\t* Total output num rows: {self.rows} rows",
        ]
        if self.wall_s > 0:
            lines.append(f"\t* Throughput: {self.rows / self.wall_s} rows/s")
        if self.seconds > 0:
            lines.append(f"\t* Estimated single task throughput: {self.rows / self.seconds} rows/s")
        return "\n".join(lines)

    def _numbers(self, of: str, total: int) -> str:
        least, most = self.spans.get(of, (0, 0))
        return f"{least:.0f} min, {most:.0f} max, {total // self.blocks} mean, {total} total"


@dataclass(frozen=True)
class RunStats:
    """A run, until now. consumer_s: seconds for which the consumer waited for blocks; wall_s: since it began. state:
    "running", "finished" or "failed"."""

    name: str
    operators: tuple[OperatorStats, ...]
    wall_s: float
    consumer_s: float
    blocks: int
    rows: int
    nbytes: int
    peak_bytes: int
    state: State = "finished"
    #: Seconds of the consumer and how often, by what it did; for which its loop waited for batches, and was the user's.
    consumer: dict[str, tuple[float, int]] = field(default_factory=dict)
    blocked_s: float = 0.0
    user_s: float = 0.0
    #: Bytes that the object stores of all nodes have moved meanwhile, also for others.
    moved: Moved = NOTHING

    def __str__(self) -> str:
        parts = [one.text(number) for number, one in enumerate(self.operators, 1)]
        lines = [
            f"{self.name}: {self.state}",
            f"* Output: {self.blocks} blocks, {self.rows:,} rows, {memory_text(self.nbytes)} in {self.wall_s:.2f}s",
            f"* Consumer: waited for blocks {_time(self.consumer_s)}, other {_time(self.wall_s - self.consumer_s)}",
            f"* Object store: at most {memory_text(self.peak_bytes)} of blocks at a time",
        ]
        if any(self.moved):
            lines.append(
                f"* All nodes: {memory_text(self.moved.spilled)} spilled, {memory_text(self.moved.restored)} restored, "
                f"{memory_text(self.moved.received)} over the network"
            )
        if self.wall_s > 0:
            lines += ["", "Dataset throughput:", f"\t* Throughput: {self.rows / self.wall_s} rows/s"]
        if self.consumer:
            lines += ["", *self._of_consumer()]
        return "\n\n".join([*parts, "\n".join(lines)]) + "\n"

    def _of_consumer(self) -> list[str]:
        waited = min(self.consumer_s, self.consumer.get(GET, (0.0, 0))[0])
        told = {WAIT: (waited, self.blocks), **self.consumer}
        if GET in told:
            told[GET] = (told[GET][0] - waited, told[GET][1])
        lines = [
            "Dataset iterator time breakdown:",
            f"    * Total time user thread is blocked by iter_batches: {_time(self.blocked_s)}",
            f"    * Total execution time for user thread: {_time(self.user_s)}",
            "* Batch iteration time breakdown (summed across prefetch threads):",
        ]
        return lines + [
            f"    * In {part}: {_time(seconds / max(1, times))} avg, {_time(seconds)} total"
            for part, (seconds, times) in told.items()
        ]


def stats_of(
    machine: Machine,
    name: str,
    wall_s: float,
    consumer_s: float,
    state: State = "finished",
    times: Times | None = None,
    moved: Moved = NOTHING,
) -> RunStats:
    """The stats of a run that may still go on."""
    ops = []
    for op in machine.ops:
        if isinstance(op, OutputOperator):
            continue
        tally = op.tally
        counters = dict(tally.counters)
        ops.append(
            OperatorStats(
                op.name, tally.works, tally.blocks, tally.rows, tally.bytes, tally.seconds, tally.errored,
                tally.retries,
                cpu_s=counters.pop(CPU_S, 0.0),
                counters=counters,
                waits={why.value: seconds for why, seconds in dict(tally.waits).items()},
                wall_s=tally.until - tally.since,
                queued_s=tally.queued_s,
                held_s=max(0.0, tally.wall_s - tally.seconds),
                spans={
                    "seconds": (tally.shortest, tally.longest),
                    "rows": (tally.fewest, tally.most),
                    "bytes": (tally.least, tally.largest),
                },
                nodes=dict(tally.nodes),
                rows_in=sum(up.tally.rows for up in op.ups),
                spilled=int(tally.spilled),
                received=tally.received,
            )
        )  # fmt: skip
    out = machine.output.tally
    return RunStats(
        name,
        tuple(ops),
        wall_s,
        consumer_s,
        out.blocks,
        out.rows,
        out.bytes,
        machine.budget.peak,
        state,
        moved=moved,
        **_of(times),
    )


def with_times(stats: RunStats, times: Times | None) -> RunStats:
    """The stats with what the consumer has done until now."""
    return replace(stats, **_of(times))


def _of(times: Times | None) -> dict[str, Any]:
    if times is None:
        return {}
    parts = {part: (times.seconds.get(part, 0.0), times.counts.get(part, 0)) for part in PARTS if part in times.counts}
    return {"consumer": parts, "blocked_s": times.blocked_s, "user_s": times.user_s}

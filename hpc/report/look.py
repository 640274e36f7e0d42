"""One look at a session for its report: what the head, the raylets and the drivers know, folded into the facts."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from hpc.core.events.rows import EventRow, TaskRow
from hpc.core.ids import HEAD
from hpc.core.metrics.table import CPU_RATIO, GPU_RATIO
from hpc.core.resources import UNIT
from hpc.report.collect import LETTERS, Collector
from hpc.report.facts import Facts, Use
from hpc.state import actors, events, gather, history, metrics, runs

#: How long one look may take, all its questions together: what has not answered is left out of it.
TIMEOUT_S = 5.0
#: A question has this long at least, and half of what is left at most: one silent node leaves time for the others.
LEAST_S = 0.5
#: Somebody who waits for one look of a large session has this long.
ALONE_S = 20.0
#: Tasks that one look brings one by one; the others are counted.
MOST_EVENTS = 50_000
#: Workers that are asked at the last look.
MAX_ASKED = 1000
#: Events that one look brings.
MAX_EVENTS = 2_000
#: Lines of a log that are shown, and how many logs are; and what is read of one.
LOG_LINES, MAX_LOGS, LOG_BYTES = 20, 20, 16 << 10

Row = Mapping[str, Any]
#: Low, mean and high.
Spread = tuple[float, float, float]


class Looker:
    """Looks at the session that this process is connected to, again and again."""

    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        self._since: dict[int, int] = {}
        self._ended: dict[int, int] = {}
        self._events = events.EventFollower(collector.facts.events_upto)
        #: Called with the events that are new.
        self.on_events: Callable[[Sequence[EventRow]], None] = lambda rows: None

    def look(self, timeout_s: float = TIMEOUT_S, *, last: bool = False) -> None:
        """One look. Raises what a session that does not answer leads to. ``last``: nothing comes after it, so workers
        are asked for what they have not told their nodes yet."""
        collector, now, end_s = self.collector, time.time(), time.monotonic() + timeout_s

        def left_s() -> float:
            return max(LEAST_S, (end_s - time.monotonic()) / 2)

        def of_raylets(what: str) -> list[dict[str, Any]]:
            return gather.from_raylets(what, timeout_s=left_s(), head_s=left_s()).rows

        nodes = gather.node_rows(left_s())
        self.take_events(left_s())
        collector.take_nodes(nodes, now)
        workers = of_raylets("workers")
        fresh = self._fresh(workers, left_s()) if last else []
        past = history.read(self._since, left_s(), MOST_EVENTS, left_s())
        self._since.update(past.upto)
        self._ended.update(past.ended)
        told = [*past.rows()]
        collector.take_tasks(told)
        collector.unseen(sum(self._ended.values()))
        if fresh:
            seen = {(row.task_id, row.attempt_number) for row in told}
            collector.take_tasks(row for row in fresh if (row.task_id, row.attempt_number) not in seen)
        collector.take_workers(of_raylets("ended"))
        drivers = [gather.address(row["worker_id"]) for row in workers if row["worker_type"] == "DRIVER"]
        owners = [HEAD, *drivers]  # most of what waits is theirs; thousands of workers are not asked
        known = gather.ask(owners, "actors", timeout_s=left_s()).rows
        collector.take_actors(actors.joined(known, of_raylets("ended_actors"))[0])
        demand = gather.ask(owners, "demand", timeout_s=left_s()).rows
        collector.take_waits(demand)
        for run_id in collector.take_runs(runs.rows_of(of_raylets("bulletins")), now):
            if time.monotonic() < end_s:
                collector.take_detail(run_id, runs.kept_detail(run_id, left_s()))
        memory = of_raylets("usage")
        store = of_raylets("store_totals")
        use = use_of(now, nodes, memory, store, sum(row["tasks"] + row["actors"] for row in demand))
        use.cpu_busy, use.gpu_busy = busy(metrics.latest(left_s()).rows)
        collector.take_use(use)
        facts = collector.facts
        if facts.job.asked_s is None:
            ends_s = gather.session_facts(left_s()).get("time_left_s")
            facts.job.asked_s = now - facts.began_s + ends_s if ends_s is not None else None
        facts.versions = facts.versions or {"hpc": _version(), "Python": platform.python_version()}

    def note(self, granted: Sequence[Row]) -> None:
        """A look at nodes that run no runtime of ours: they were granted, and all of them is its."""
        now, rows = time.time(), [dict(row) for row in granted]
        self.collector.facts.is_plain = True
        self.collector.take_nodes(rows, now)
        self.collector.take_use(use_of(now, rows, (), (), 0))

    def take_events(self, timeout_s: float) -> None:
        """What has happened since the last look."""
        rows = self._events.more(MAX_EVENTS, timeout_s)
        self.collector.take_events(rows, self._events.missed)
        if rows:
            self.on_events(rows)

    def _fresh(self, workers: list[dict[str, Any]], timeout_s: float) -> list[TaskRow]:
        """What workers ran a moment ago."""
        ran = [row["worker_id"] for row in workers if row["worker_type"] == "WORKER" and row["state"] != "STARTING"]
        asked = [gather.address(worker) for worker in ran[:MAX_ASKED]]
        rows = gather.ask(asked, "events", timeout_s=timeout_s).rows
        for row in rows:
            row["worker_id"] = row.pop("answered_by")
        return msgspec.convert(rows, list[TaskRow])

    def take_logs(self, end_s: float) -> None:
        """The ends of the logs of workers that ended unexpectedly and of the first failures, as far as there is time
        until then (monotonic)."""
        facts = self.collector.facts
        for fact in facts.workers[:MAX_LOGS]:
            if not fact.log and time.monotonic() < end_s:
                fact.log = _end_of_log(fact.worker, end_s)
        logs = {fact.worker: fact.log for fact in facts.workers if fact.log}
        for one in facts.failed[:MAX_LOGS]:
            if not one.log and time.monotonic() < end_s:
                one.log = logs.get(one.worker) or _end_of_log(one.worker, end_s)


def busy(rows: Sequence[metrics.MetricRow]) -> tuple[Spread | None, Spread | None]:
    """How busy CPUs and GPUs are."""
    found: dict[str, Spread] = {}
    for row in rows:
        if row.name in (CPU_RATIO, GPU_RATIO) and row.band is not None and row.band.count:
            found[row.name] = (row.band.p10, row.band.sum / row.band.count, row.band.p90)
    return found.get(CPU_RATIO), found.get(GPU_RATIO)


def use_of(now: float, nodes: list[dict[str, Any]], memory: Sequence[Row], store: Sequence[Row], waiting: int) -> Use:
    """The amounts of one look."""
    alive = [row for row in nodes if row["alive"] and not row["gateway"]]
    shares = sorted(row["used_bytes"] / row["limit_bytes"] for row in memory if row["limit_bytes"])
    band = (shares[0], shares[len(shares) // 2], shares[-1]) if shares else None

    def amount(name: str) -> tuple[float, float]:
        there = sum(row["totals"].get(name, 0) for row in alive) / UNIT
        return there, max(0.0, there - sum(row["free"].get(name, 0) for row in alive) / UNIT)

    (cpus, cpus_given), (gpus, gpus_given) = amount("CPU"), amount("GPU")
    return Use(
        now, len(alive), cpus, cpus_given, gpus, gpus_given, band,
        sum(row["used_bytes"] for row in store), sum(row["disk_bytes"] for row in store),
        sum(row["spilled_bytes"] for row in store), waiting,
    )  # fmt: skip


def _end_of_log(worker: str, end_s: float) -> list[str]:
    """The last lines; a line may be as long as its file, so only the last bytes are read."""
    from hpc.core.exceptions import HpcError
    from hpc.core.node.marks import Unmarked
    from hpc.state import worker_logs

    try:
        node, file = gather.address(worker).node, f"worker-{gather.address(worker).proc}.err"
        there = worker_logs.ask(node, file, 0, 0, max(LEAST_S, end_s - time.monotonic()))
        begin = max(there.first, there.end - LOG_BYTES)
        piece = worker_logs.ask(node, file, begin, LOG_BYTES, max(LEAST_S, end_s - time.monotonic()))
    except (OSError, ValueError, HpcError):
        return []
    marks = Unmarked()
    text = worker_logs.plain(marks.take(piece.data) + marks.rest()).decode("utf-8", "replace")
    return [line[-LETTERS:] for line in text.splitlines()[-LOG_LINES:]]


def _version() -> str:
    from hpc import __version__

    return str(__version__)


def facts_now(facts: Facts | None = None) -> Facts:
    """The facts of the session that this process is connected to, by one look."""
    looker = Looker(Collector(facts))
    looker.look(ALONE_S, last=True)
    looker.take_logs(time.monotonic() + TIMEOUT_S)
    return looker.collector.facts

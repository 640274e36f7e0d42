"""One look at a session for its report: what the head, the raylets and the drivers know, folded into the facts."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from hpc.core.events.rows import TaskRow
from hpc.core.ids import HEAD
from hpc.core.metrics.table import CPU_RATIO, GPU_RATIO
from hpc.core.resources import UNIT
from hpc.report.collect import Collector
from hpc.report.facts import Facts, Use
from hpc.state import gather, history, metrics

#: How long one question may take: what has not answered is left out of this look.
TIMEOUT_S = 5.0
#: Tasks that one look brings one by one; the others are counted.
MOST_EVENTS = 50_000
#: Workers that are asked at the last look.
MAX_ASKED = 1000
#: Lines of a log that are shown, and how many logs are.
LOG_LINES, MAX_LOGS = 20, 20

Row = Mapping[str, Any]
#: Low, mean and high.
Spread = tuple[float, float, float]


class Looker:
    """Looks at the session that this process is connected to, again and again."""

    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        self._since: dict[int, int] = {}
        self._ended: dict[int, int] = {}

    def look(self, timeout_s: float = TIMEOUT_S, *, last: bool = False) -> None:
        """One look. Raises what a session that does not answer leads to. ``last``: nothing comes after it, so workers
        are asked for what they have not told their nodes yet."""
        collector, now = self.collector, time.time()
        nodes = gather.node_rows(timeout_s)
        collector.take_nodes(nodes, now)
        workers = gather.from_raylets("workers", timeout_s=timeout_s, head_s=timeout_s).rows
        fresh = self._fresh(workers, timeout_s) if last else []
        past = history.read(self._since, timeout_s, MOST_EVENTS)
        self._since.update(past.upto)
        self._ended.update(past.ended)
        told = [*past.rows()]
        collector.take_tasks(told)
        collector.unseen(sum(self._ended.values()))
        if fresh:
            known = {(row.task_id, row.attempt_number) for row in told}
            collector.take_tasks(row for row in fresh if (row.task_id, row.attempt_number) not in known)
        collector.take_workers(gather.from_raylets("ended", timeout_s=timeout_s, head_s=timeout_s).rows)
        drivers = [gather.address(row["worker_id"]) for row in workers if row["worker_type"] == "DRIVER"]
        owners = [HEAD, *drivers]  # most of what waits is theirs; thousands of workers are not asked
        collector.take_actors(gather.ask(owners, "actors", timeout_s=timeout_s).rows, now)
        demand = gather.ask(owners, "demand", timeout_s=timeout_s).rows
        collector.take_waits(demand)
        memory = gather.from_raylets("usage", timeout_s=timeout_s, head_s=timeout_s).rows
        store = gather.from_raylets("store_totals", timeout_s=timeout_s, head_s=timeout_s).rows
        use = use_of(now, nodes, memory, store, sum(row["tasks"] + row["actors"] for row in demand))
        use.cpu_busy, use.gpu_busy = busy(metrics.latest(timeout_s).rows)
        collector.take_use(use)
        facts = collector.facts
        if facts.job.asked_s is None:
            left_s = gather.session_facts().get("time_left_s")
            facts.job.asked_s = now - facts.began_s + left_s if left_s is not None else None
        facts.versions = facts.versions or {"hpc": _version(), "Python": platform.python_version()}

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
    band = (shares[0], shares[len(shares) // 2], shares[-1]) if shares else (0.0, 0.0, 0.0)

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
    from hpc.core.exceptions import HpcError
    from hpc.state import worker_logs

    try:
        left_s = max(0.1, end_s - time.monotonic())
        part = worker_logs.LogPart(gather.address(worker).node, f"worker-{gather.address(worker).proc}.err")
        data = b"".join(worker_logs.read(part, LOG_LINES, timeout_s=left_s))
    except (OSError, ValueError, HpcError):
        return []
    return worker_logs.plain(data).decode("utf-8", "replace").splitlines()[-LOG_LINES:]


def _version() -> str:
    from hpc import __version__

    return str(__version__)


def facts_now(facts: Facts | None = None) -> Facts:
    """The facts of the session that this process is connected to, by one look."""
    looker = Looker(Collector(facts))
    looker.look(last=True)
    looker.take_logs(time.monotonic() + TIMEOUT_S)
    return looker.collector.facts

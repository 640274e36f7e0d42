"""What a raylet's machine knows in numbers: its workers, what they hold, its store and its time. Pure."""

from __future__ import annotations

from collections import Counter

from hpc.core.metrics import table
from hpc.core.metrics.sample import Sample, counted, gauge
from hpc.core.raylet.leasing import Leasing
from hpc.core.raylet.object_store import ObjectStore
from hpc.core.raylet.report import store_totals
from hpc.core.raylet.tables import Proc
from hpc.core.resources import UNIT

#: How a worker can be, as a label: those of which there are none are told too, so that a band has all nodes.
STATES = ("starting", "idle", "task", "actor", "blocked")
MOVED = {
    "spilled": "spilled_bytes", "restored": "restored_bytes", "sent": "sent_bytes", "received": "received_bytes",
}  # fmt: skip


class Numbers:
    """One raylet's: it knows what it has told of that which grows."""

    def __init__(self, leasing: Leasing, store: ObjectStore) -> None:
        self._leasing = leasing
        self._store = store
        self._moved: dict[str, int] = {}

    def samples(self, now: float) -> list[Sample]:
        """All of them now, and what has grown since they were asked for last."""
        leasing = self._leasing
        states = Counter(_state(proc) for proc in leasing.procs.values() if proc.kind == "worker")
        found = [gauge(table.WORKERS, states[state], ("state", state)) for state in STATES]
        found.append(gauge(table.WORKERS_WANTED, sum(demand.want for demand in leasing.demands.values())))
        totals, free = leasing.resources.totals, leasing.resources.free
        for name in ("CPU", "GPU"):
            if totals.get(name):
                used = 1.0 - max(0, free.get(name, 0)) / totals[name]
                found.append(gauge(table.USED_RATIO, used, ("resource", name)))
                there = totals[name] / UNIT
                found.append(gauge(table.RESOURCES, there, ("kind", "total", "resource", name)))
                found.append(gauge(table.RESOURCES, there * used, ("kind", "used", "resource", name)))
        if leasing.closing.ends_at is not None:
            found.append(gauge(table.TIME_LEFT, max(0.0, leasing.closing.ends_at - now)))
        return found + self._of_store()

    def _of_store(self) -> list[Sample]:
        totals = store_totals(self._store)
        kinds = {
            "used": "used_bytes", "capacity": "capacity_bytes", "overflow": "overflow_bytes", "disk": "disk_bytes",
        }  # fmt: skip
        found = [gauge(table.STORE, totals[field], ("kind", kind)) for kind, field in kinds.items()]
        found.append(gauge(table.OBJECTS, totals["objects"]))
        if totals["capacity_bytes"]:
            found.append(gauge(table.STORE_RATIO, totals["used_bytes"] / totals["capacity_bytes"]))
        for how, field in MOVED.items():
            if more := totals[field] - self._moved.get(how, 0):
                self._moved[how] = totals[field]
                found.append(counted(table.MOVED, more, ("how", how)))
        return found


def _state(proc: Proc) -> str:
    if proc.state == "starting":
        return "starting"
    if proc.lease is None:
        return "idle"
    if proc.lease.actor:
        return "actor"
    return "blocked" if proc.blocked else "task"

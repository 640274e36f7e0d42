"""What a raylet knows, as plain rows for people and the state API: its processes, its store, and who waits. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

from msgspec import to_builtins

from hpc.core.events.rows import WorkerRow, WorkerStanding
from hpc.core.ids import Address, owner_of
from hpc.core.raylet.leasing import Leasing
from hpc.core.raylet.object_store import ObjectStore
from hpc.core.raylet.tables import Proc, ProcState
from hpc.core.resources import from_units, show
from hpc.core.runenv.spec import has_setup, unpack

Row = dict[str, Any]
STANDINGS: Mapping[ProcState, WorkerStanding] = {
    "starting": "STARTING", "idle": "IDLE", "leased": "LEASED", "driver": "DRIVER",
}  # fmt: skip


def report(
    leasing: Leasing, store: ObjectStore, more: Mapping[str, Callable[[int], list[Row]]], what: str, limit: int
) -> list[Row]:
    """At most ``limit`` rows of "workers", "store", "store_totals" (one row), "waiting" or "setups", or of what
    there is ``more`` to ask for; else none."""
    if what == "workers":
        return _workers(leasing, limit)
    if what == "store":
        return _store(leasing, store, limit)
    if what == "store_totals":
        return [store_totals(store)][:limit]
    if what == "waiting":
        return _waiting(leasing)[:limit]
    if what == "setups":
        return _setups(leasing)[:limit]
    other = more.get(what)
    return other(limit) if other is not None else []


def _waiting(leasing: Leasing) -> list[Row]:
    """Each demand that waits, and what is free."""
    free = show(leasing.resources.free)
    return [
        {"owner": str(demand.owner), "waiting": demand.want, "wants": show(demand.placement), "free_here": free}
        for demand in leasing.demands.values()
        if demand.want
    ]


def _workers(leasing: Leasing, limit: int) -> list[Row]:
    return [to_builtins(worker_row(leasing.node, proc)) for proc in islice(leasing.procs.values(), limit)]


def worker_row(node: int, proc: Proc) -> WorkerRow:
    """A driver or worker as it is now."""
    lease = proc.lease
    return WorkerRow(
        worker_id=str(Address(node, proc.proc)),
        worker_type="DRIVER" if proc.kind == "driver" else "WORKER",
        state=STANDINGS[proc.state],
        node_id=str(node),
        pid=proc.pid,
        is_alive=True,
        is_guest=proc.kind == "driver" and not proc.job,
        is_actor=lease is not None and lease.actor,
        leased_by=str(lease.owner) if lease is not None else "",
        resources=from_units(lease.grant.amounts) if lease is not None else {},
        blocked=lease is not None and lease.grant.cpu_lent,
    )


def _setups(leasing: Leasing) -> list[Row]:
    """Leases whose worker first makes its runtime environment: whose they are, what is made, and since when."""
    making = {proc.env: proc for proc in reversed(leasing.starting.values())}
    rows = []
    for lease in leasing.awaiting:
        if lease.ident in leasing.leases and has_setup(lease.env):
            proc = making.get(lease.env)
            rows.append(
                {
                    "owner": str(lease.owner),
                    "request": lease.req,
                    "node_id": str(leasing.node),
                    "what": sorted(set(unpack(dict(lease.env))[1]) - {"config"}),
                    "worker_id": str(Address(leasing.node, proc.proc)) if proc is not None else "",
                    "since_s": max(0.0, leasing.now - proc.started) if proc is not None else 0.0,
                }
            )
    return rows


def _store(leasing: Leasing, store: ObjectStore, limit: int) -> list[Row]:
    rows: list[Row] = [
        {
            "object_id": "",
            "node_id": str(leasing.node),
            "used_bytes": store.used_bytes,
            "capacity_bytes": store.layout.capacity - store.layout.reserved,
            "objects": len(store.stored),
            "disk_bytes": store.spiller.used_bytes,
            "spilled_bytes": store.spiller.spilled_bytes,
            "free": show(leasing.resources.free),
        }
    ]
    largest = sorted(store.stored.values(), key=lambda obj: -obj.size)
    for obj in islice(largest, limit):
        rows.append(
            {
                "object_id": obj.ident.hex(),
                "node_id": str(leasing.node),
                "object_size": obj.size,
                "owner": str(owner_of(obj.ident)),
                "copy": obj.copy,
                "pinned_by": [str(Address(leasing.node, proc)) for proc in obj.pins],
            }
        )
    return rows


def store_totals(store: ObjectStore) -> Row:
    """What is in the store and what was moved, in bytes and numbers of objects."""
    spiller, pulls = store.spiller, store.pulls
    return {
        "capacity_bytes": store.layout.capacity - store.layout.reserved,
        "used_bytes": store.used_bytes,
        "span_bytes": store.writing.span_bytes,
        "objects": len(store.stored),
        "objects_in_memory": len(store.lru),
        "overflow_bytes": store.overflow.layout.used_bytes,
        "disk_bytes": spiller.used_bytes,
        "disk_files": len(spiller.files),
        "spilled_bytes": spiller.spilled_bytes,
        "spilled_objects": spiller.spilled_objects,
        "restored_bytes": spiller.restored_bytes,
        "restored_objects": spiller.restored_objects,
        "disk_errors": spiller.errors,
        "sent_bytes": pulls.sent_bytes,
        "received_bytes": pulls.received_bytes,
        "plain_bytes": pulls.plain_bytes,
        "waiting": len(store.wanted) + len(store.sets),
    }

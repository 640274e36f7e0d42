"""What a raylet knows, as plain rows for people and the state API: its processes, its store, and who waits. No I/O."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from hpc.core.ids import Address, owner_of
from hpc.core.resources import from_units, show
from hpc.core.runenv.spec import has_setup, unpack

if TYPE_CHECKING:
    from hpc.core.raylet.machine import RayletMachine

Row = dict[str, Any]


def report(machine: RayletMachine, what: str, limit: int) -> list[Row]:
    """At most ``limit`` rows of "workers", "store", "store_totals" (one row), "waiting" or "setups", or of what the
    shell reports; else none."""
    if what == "workers":
        return _workers(machine, limit)
    if what == "store":
        return _store(machine, limit)
    if what == "store_totals":
        return [dict(machine.memory.stats())][:limit]
    if what == "waiting":
        return machine.leasing.why_waiting()[:limit]
    if what == "setups":
        return _setups(machine)[:limit]
    more = machine.reports.get(what)
    return more(limit) if more is not None else []


def _workers(machine: RayletMachine, limit: int) -> list[Row]:
    rows = []
    for proc in islice(machine.leasing.procs.values(), limit):
        lease = proc.lease
        rows.append(
            {
                "worker_id": str(Address(machine.node, proc.proc)),
                "worker_type": "DRIVER" if proc.kind == "driver" else "WORKER",
                "state": proc.state.upper(),
                "node_id": str(machine.node),
                "pid": proc.pid,
                "is_alive": True,
                "is_actor": lease is not None and lease.actor,
                "leased_by": str(lease.owner) if lease is not None else "",
                "resources": from_units(lease.grant.amounts) if lease is not None else {},
                "blocked": lease is not None and lease.grant.cpu_lent,
            }
        )
    return rows


def _setups(machine: RayletMachine) -> list[Row]:
    """Leases whose worker first makes its runtime environment: whose they are, what is made, and since when."""
    leasing = machine.leasing
    making = {proc.env: proc for proc in reversed(leasing.starting.values())}
    rows = []
    for lease in leasing.awaiting:
        if lease.ident in leasing.leases and has_setup(lease.env):
            proc = making.get(lease.env)
            rows.append(
                {
                    "owner": str(lease.owner),
                    "request": lease.req,
                    "node_id": str(machine.node),
                    "what": sorted(set(unpack(dict(lease.env))[1]) - {"config"}),
                    "worker_id": str(Address(machine.node, proc.proc)) if proc is not None else "",
                    "since_s": max(0.0, machine.now - proc.started) if proc is not None else 0.0,
                }
            )
    return rows


def _store(machine: RayletMachine, limit: int) -> list[Row]:
    memory = machine.memory
    rows: list[Row] = [
        {
            "object_id": "",
            "node_id": str(machine.node),
            "used_bytes": memory.layout.used_bytes,
            "capacity_bytes": memory.layout.capacity - memory.layout.reserved,
            "objects": len(memory.stored),
            "disk_bytes": memory.spiller.used_bytes,
            "spilled_bytes": memory.spiller.spilled_bytes,
            "free": show(machine.leasing.resources.free),
        }
    ]
    largest = sorted(memory.stored.values(), key=lambda obj: -obj.size)
    for obj in islice(largest, limit):
        rows.append(
            {
                "object_id": obj.ident.hex(),
                "node_id": str(machine.node),
                "object_size": obj.size,
                "owner": str(owner_of(obj.ident)),
                "copy": obj.copy,
                "pinned_by": [str(Address(machine.node, proc)) for proc in obj.pins],
            }
        )
    return rows

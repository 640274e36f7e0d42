"""What a process knows of its tasks, actors and objects, as plain rows for people and the state API. No I/O.

The truth about a task is with its owner: so whoever asks, asks every process, and this is what each answers. Why
something waits is said here, from the fields that decide it.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

from msgspec import to_builtins

from hpc.core.ids import owner_of
from hpc.core.owner.actor_rows import actor_row, why_actor, why_unplaced, why_waiting
from hpc.core.owner.machine import OwnerMachine
from hpc.core.owner.tables import CallRec, Entry, Shape, TaskRec
from hpc.core.resources import from_units, show
from hpc.core.runenv.spec import KEY
from hpc.core.wire import ERROR, INLINE, STORED, SYSTEM

Row = dict[str, Any]
WHERE = {INLINE: "INLINE", STORED: "STORED", ERROR: "ERROR", SYSTEM: "ERROR"}


def report(machine: OwnerMachine, what: str, limit: int) -> list[Row]:
    """At most ``limit`` rows of "tasks", "actors", "objects" or "demand"; none for anything else."""
    machine.calls.runs.unfold_all()
    if what == "tasks":
        tasks: Iterable[Row] = (_task(machine, rec) for rec in machine.state.tasks.values())
        calls = (_call(machine, rec) for rec in machine.state.calls.values())
        return [*islice(tasks, limit), *islice(calls, limit)][:limit]
    if what == "actors":
        rows = [actor_row(machine.state, actor) for actor in islice(machine.state.actors.values(), limit)]
        return [to_builtins(row) for row in (*rows, *machine.ended_actors.rows)][:limit]
    if what == "objects":
        return [_object(machine, entry) for entry in islice(machine.state.entries.values(), limit)]
    if what == "demand":
        return [_demand(machine, shape) for shape in machine.state.shapes if shape.queue or shape.actors][:limit]
    return []


def _demand(machine: OwnerMachine, shape: Shape) -> Row:
    """What waits for workers of one kind, however much it is."""
    return {
        "owner": str(machine.addr),
        "request": shape.req,
        "has_setup": KEY in shape.env,
        "tasks": len(shape.queue),
        "actors": len(shape.actors),
        "required_resources": from_units(shape.placement),
        "strategy": shape.strategy if isinstance(shape.strategy, str) else str(shape.strategy[0]),
        "names": list(dict.fromkeys(rec.msg.name for rec in islice(shape.queue, 100)))[:3]
        + list(dict.fromkeys(actor.create.name for actor in islice(shape.actors, 100)))[:3],
        "is_infeasible": bool(shape.infeasible),
        "why": _why_task(machine, shape) if shape.queue else why_unplaced(shape),
    }


def _why_task(machine: OwnerMachine, shape: Shape) -> str:
    if shape.infeasible:
        return f"no node of the session can run it: {shape.infeasible}"
    return (
        f"it waits for a worker that has {show(shape.placement)} free; {len(shape.queue)} tasks like it wait in this "
        f"process, which has {len(shape.leases)} such workers now"
    )


def _task(machine: OwnerMachine, rec: TaskRec) -> Row:
    state, why = _standing(machine, rec)
    worker = rec.lease.worker if rec.lease is not None else None
    return {
        "task_id": rec.msg.task.hex(),
        "name": rec.msg.name,
        "type": "NORMAL_TASK",
        "state": state,
        "why": why,
        "attempt_number": rec.msg.ran,
        "retries_left": rec.retries,
        "parent_task_id": rec.parent.hex(),
        "actor_id": "",
        "required_resources": from_units(rec.shape.held),
        "request": rec.shape.req if rec.lease is None and KEY in rec.shape.env else 0,
        "owner": str(machine.addr),
        "worker_id": str(worker) if worker is not None else "",
        "node_id": str(worker.node) if worker is not None else "",
    }


def _standing(machine: OwnerMachine, rec: TaskRec) -> tuple[str, str]:
    if rec.unresolved:
        return "PENDING_ARGS_AVAIL", why_waiting(machine.state, rec.msg.refs)
    if rec.lease is not None:
        return "SUBMITTED_TO_WORKER", f"it is queued or running at worker {rec.lease.worker}"
    return "PENDING_NODE_ASSIGNMENT", _why_task(machine, rec.shape)


def _call(machine: OwnerMachine, rec: CallRec) -> Row:
    client = rec.client
    if rec.unresolved:
        state, why = "PENDING_ARGS_AVAIL", why_waiting(machine.state, rec.msg.refs)
    elif rec.sent:
        state, why = "SUBMITTED_TO_WORKER", f"it is queued or running at its actor, worker {client.worker}"
    else:
        state, why = (
            "PENDING_ACTOR_TASK_ORDERING_OR_CONCURRENCY",
            f"its actor is {client.state}: {client.why or 'wait'}",
        )
        owned = machine.state.actors.get(client.actor)
        if owned is not None and client.state != "alive":
            why = "its actor is not there yet: " + why_actor(machine.state, owned)
    return {
        "task_id": rec.msg.task.hex(),
        "name": rec.msg.name,
        "func_or_class_name": rec.msg.method,
        "type": "ACTOR_TASK",
        "state": state,
        "why": why,
        "attempt_number": rec.msg.ran,
        "retries_left": rec.retries,
        "parent_task_id": rec.parent.hex(),
        "actor_id": client.actor.hex(),
        "required_resources": {},
        "owner": str(machine.addr),
        "worker_id": str(client.worker) if client.worker.node else "",
        "node_id": str(client.worker.node) if client.worker.node else "",
    }


def _object(machine: OwnerMachine, entry: Entry) -> Row:
    result = entry.result
    nodes = list(result.nodes) if result is not None else []
    return {
        "object_id": entry.ident.hex(),
        "object_size": (result.size or len(result.data)) if result is not None else 0,
        "state": WHERE[result.kind] if result is not None else "PENDING",
        "node_ids": [str(node) for node in nodes],
        "owner": str(owner_of(entry.ident)),
        "process": str(machine.addr),
        "reference_type": "OWNED" if entry.owned else "BORROWED",
        "local_count": entry.count,
        "holding_nodes": sorted(entry.nodes or ()),
        "why": "" if result is not None else "the task that makes it has not ended",
    }

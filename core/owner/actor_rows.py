"""An actor as a row, with why it stands as it does: from the fields that decide it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hpc.core.events.rows import ActorRow, ActorStanding
from hpc.core.owner.state import OwnerState
from hpc.core.owner.tables import OwnedActor, Shape
from hpc.core.resources import from_units, show
from hpc.core.runenv.spec import KEY
from hpc.core.wire import ActorPhase

STANDINGS: Mapping[ActorPhase, ActorStanding] = {
    "pending": "PENDING_CREATION", "alive": "ALIVE", "restarting": "RESTARTING", "dead": "DEAD",
}  # fmt: skip


def actor_row(state: OwnerState, actor: OwnedActor) -> ActorRow:
    """An actor of this owner as it is now."""
    create, worker = actor.create, actor.worker
    standing = STANDINGS[actor.state]
    if actor.unresolved and actor.state == "pending":
        standing = "DEPENDENCIES_UNREADY"
    placed = bool(worker.node) and actor.state != "dead"
    return ActorRow(
        actor_id=create.actor.hex(),
        class_name=str(create.options.get("class_name") or create.name),
        state=standing,
        why=why_actor(state, actor),
        name=actor.name,
        ray_namespace=actor.namespace,
        num_restarts=actor.incarnation,
        restarts_left=actor.restarts,
        is_detached=actor.detached,
        death_cause=_why_dead(actor) if actor.state == "dead" else "",
        owner=str(state.addr),
        worker_id=str(worker) if placed else "",
        node_id=str(worker.node) if placed else "",
        last_worker_id=str(worker) if worker.node else "",
        required_resources=from_units(actor.shape.held),
        request=actor.shape.req if actor.lease is None and KEY in actor.shape.env else 0,
    )


def actor_words(actor: OwnedActor) -> str:
    """What an actor is called where people read of it: class, name, and id."""
    class_name = str(actor.create.options.get("class_name") or actor.create.name).rpartition(".")[2]
    return " ".join(filter(None, ("actor", class_name, actor.name, actor.create.actor.hex())))


def why_actor(state: OwnerState, actor: OwnedActor) -> str:
    """Why an actor is as it is, in one sentence."""
    if actor.state == "alive":
        return f"it lives at worker {actor.worker}"
    if actor.state == "dead":
        return _why_dead(actor)
    begun = f"its process ended ({actor.why}) and it is being restarted: " if actor.state == "restarting" else ""
    if actor.unresolved:
        return begun + why_waiting(state, actor.create.refs)
    if actor.lease is not None:
        return begun + f"its constructor runs at worker {actor.worker}"
    return begun + why_unplaced(actor.shape)


def _why_dead(actor: OwnedActor) -> str:
    return actor.why if actor.error == "ActorDiedError" else f"{actor.error}: {actor.why}"


def why_unplaced(shape: Shape) -> str:
    """Why an actor of this shape has no worker."""
    if shape.infeasible:
        return f"no node of the session can take it: {shape.infeasible}"
    return f"it waits for a worker on a node that has {show(shape.placement)} free"


def why_waiting(state: OwnerState, refs: Sequence[bytes]) -> str:
    """Which of its arguments something waits for."""
    missing = [i for i in dict.fromkeys(refs) if (e := state.entries.get(i)) is None or e.result is None]
    shown = []
    for ident in missing[:3]:
        maker = state.unfinished(ident)
        name = getattr(maker.msg, "name", None) or getattr(maker.msg, "method", "") if maker is not None else ""
        shown.append(f"{ident.hex()}" + (f" (made by {name})" if name else ""))
    more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
    return f"it waits for its arguments: object {', '.join(shown)}{more}"

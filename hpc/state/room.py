"""What is free on each node, and whether a placement group would find room there: by the head's own policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hpc.api.connection import ensure_client
from hpc.core.policy.labels import parse_selector
from hpc.core.resources import UNIT, to_units
from hpc.state.gather import from_raylets, node_rows, session_facts


class NodeRoom(NamedTuple):
    """A living node: its number, what is free on it and what it has in all, by resource, and its labels. ``is_open``:
    whether anything new begins there (not while it drains, is vacated, or is silent)."""

    node: int
    free: Mapping[str, float]
    total: Mapping[str, float]
    labels: Mapping[str, str]
    is_open: bool = True


def rooms() -> list[NodeRoom]:
    """The living nodes that run tasks and actors, as the head knew them a moment ago. What it has promised to somebody
    is not free any more."""
    return [
        NodeRoom(row["node"], _amounts(row["spare"]), _amounts(row["totals"]), row["labels"], row["open"])
        for row in node_rows()
        if row["alive"] and not row["gateway"]
    ]


def why_no_room(
    rooms: Sequence[NodeRoom],
    bundles: Sequence[Mapping[str, float]],
    strategy: str,
    selectors: Sequence[Mapping[str, str]] = (),
) -> str:
    """Why a placement group of these bundles does not fit into what is free in these rooms; "" where it does. To ask
    whether it ever could, give rooms where all is free (`idle`)."""
    from hpc.core.policy.group_reasons import why_no_group
    from hpc.core.policy.placement import Snapshot

    rows = [(room.node, _units(room.free), _units(room.free)) for room in rooms if room.is_open]
    snapshot = Snapshot.of(rows, {room.node: room.labels for room in rooms})
    wanted = [{name: to_units(name, amount) for name, amount in bundle.items()} for bundle in bundles]
    return why_no_group(snapshot, wanted, strategy, [parse_selector(one) for one in selectors])


def idle(rooms: Sequence[NodeRoom]) -> list[NodeRoom]:
    """The same nodes with all that they have free, and open."""
    return [room._replace(free=room.total, is_open=True) for room in rooms]


def may_grow() -> bool:
    """Whether further nodes may join: a session that grows with its work has fewer than it may have."""
    growth = session_facts().get("growth")
    return growth is not None and sum(row["alive"] and not row["gateway"] for row in node_rows()) < growth["most"]


def awaits_environment() -> bool:
    """Whether a worker that this process waits for is starting, and makes its runtime environment first. What it is to
    have is taken already, though nobody may know of it yet."""
    me = str(ensure_client().addr)
    return any(row["owner"] == me for row in from_raylets("setups").rows)


def _amounts(units: Mapping[str, int]) -> dict[str, float]:
    return {name: amount / UNIT for name, amount in units.items()}


def _units(amounts: Mapping[str, float]) -> dict[str, int]:
    """What is free may be less than nothing for a moment, and has no rule for its fractions."""
    return {name: round(amount * UNIT) for name, amount in amounts.items()}

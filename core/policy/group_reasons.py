"""Why the bundles of a placement group have no place: what is asked for, and the domain that comes nearest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hpc.core.policy.bundles import MAX_KINDS, fewer, kinds_of, place_bundles
from hpc.core.policy.domains import DomainWish, Topology, held_by
from hpc.core.policy.labels import show_selector
from hpc.core.policy.placement import Snapshot
from hpc.core.policy.room import BundleKind, Room, dealt
from hpc.core.policy.topology import together
from hpc.core.resources import UNIT, show

Bundles = Sequence[Mapping[str, int]]
#: Domains that are looked at closely to find the nearest.
MAX_LOOKS = 16


def why_no_group(
    snapshot: Snapshot, bundles: Bundles, strategy: str, selectors: Sequence[Any] = (), topology: Topology = ()
) -> str:
    """What would be needed, where the nodes that exist could not hold the group even if they were empty."""
    empty = snapshot.emptied()
    if place_bundles(empty, bundles, strategy, selectors, topology=topology) is not None:
        return ""
    kinds = kinds_of(snapshot, bundles, selectors)
    room = _room(empty, kinds, np.ones(len(empty.nodes), dtype=bool))
    for kind in sorted(kinds, key=lambda kind: kind.bundles[0]):
        if not room.fits(kind).any():
            i = kind.bundles[0]
            selector = selectors[i] if selectors else None
            where = f" with labels {show_selector(selector)}" if selector else ""
            return f"bundle {i} needs one node{where} with {{{show(bundles[i])}}}, and no node has that"
    size = len(snapshot.nodes)
    if place_bundles(empty, bundles, strategy, selectors) is not None:
        return _no_domain(empty, kinds, len(bundles), DomainWish(strategy, topology), "has room for")
    if strategy == "STRICT_PACK":
        return (
            f"STRICT_PACK needs one node with {{{show(_sum(bundles))}}}, and no node has that{_split(empty, bundles)}"
        )
    if strategy == "STRICT_SPREAD":
        return f"STRICT_SPREAD needs a node for each of {len(bundles)} bundles, and only {size} nodes can be used so"
    need = f"its {len(bundles)} bundles need {{{show(_sum(bundles))}}} together"
    return f"{need}, more than the {size} nodes have{_split(empty, bundles)}"


def _split(snapshot: Snapshot, bundles: Bundles) -> str:
    """What to know where the sum would do."""
    parts = any(units % UNIT for bundle in bundles for name, units in bundle.items() if name in snapshot.devices)
    return ": a fraction is of one device" if parts else ""


def why_group_waits(
    snapshot: Snapshot, bundles: Bundles, strategy: str, selectors: Sequence[Any], topology: Topology
) -> str:
    """What a group waits for that asks for domains, and has no bundle yet; empty if there is room for it."""
    if place_bundles(snapshot, bundles, strategy, selectors, topology=topology) is not None:
        return ""
    kinds = kinds_of(snapshot, bundles, selectors)
    return _no_domain(snapshot, kinds, len(bundles), DomainWish(strategy, topology), "has room now for")


def _sum(bundles: Bundles) -> dict[str, int]:
    sums: dict[str, int] = {}
    for bundle in bundles:
        for name, units in bundle.items():
            sums[name] = sums.get(name, 0) + units
    return sums


def _no_domain(snapshot: Snapshot, kinds: Sequence[BundleKind], count: int, wish: DomainWish, has: str) -> str:
    for key in wish.needs:
        if not snapshot.level(key).names:
            return f"no node has the label {key} that its topology_strategy names"
    if wish.one:
        near, holds = nearest(snapshot, kinds, wish)
        keys = " and ".join(wish.one)
        best = f"the nearest, {near}, {has} {holds}" if near else f"none {has} any"
        return f"its {count} bundles need one {keys} for all, and {best}"
    if wish.how == "STRICT_SPREAD":
        level = snapshot.level(wish.key)
        usable = sum(1 for code in range(len(level.names)) if _holds_any(snapshot, kinds, wish, code))
        return f"its {count} bundles need a {wish.key} for each, and {usable} of {len(level.names)} {has} one"
    return f"its {count} bundles do not all find room"


def _holds_any(snapshot: Snapshot, kinds: Sequence[BundleKind], wish: DomainWish, code: int) -> bool:
    part = _room(snapshot, kinds, snapshot.level(wish.key).codes == code)
    return any(bool(part.fits(kind).any()) for kind in kinds)


def _room(snapshot: Snapshot, kinds: Sequence[BundleKind], usable: Any) -> Room:
    names = dict.fromkeys(name for kind in kinds for name, units in kind.amounts.items() if units)
    return Room.of(snapshot, names, usable, ())


def nearest(snapshot: Snapshot, kinds: Sequence[BundleKind], wish: DomainWish) -> tuple[str, int]:
    """The domain that could hold most of the bundles, and how many; ("", 0) where none holds any."""
    levels = [snapshot.level(key) for key in wish.one]
    kinds = fewer(kinds) if len(kinds) > MAX_KINDS else kinds
    codes = together(levels)
    room = _room(snapshot, kinds, codes >= 0)
    codes = codes[room.rows]
    size = int(codes.max(initial=-1)) + 1
    bound = np.zeros(size, dtype=np.int64)
    for kind in kinds:
        bound += np.minimum(held_by(room, kind, codes, wish.strategy, size), kind.count)
    best: tuple[str, int] = "", 0
    for code in np.argsort(-bound, kind="stable")[:MAX_LOOKS].tolist():
        if bound[code] <= best[1]:
            break
        places = np.flatnonzero(codes == code)
        part = room.within(places)
        holds = sum(_put(part, kind, wish.strategy) for kind in kinds)
        if holds > best[1]:
            row = int(room.rows[places[0]])
            best = "/".join(level.names[int(level.codes[row])] for level in levels), holds
    return best


def _put(room: Room, kind: BundleKind, strategy: str) -> int:
    """Put as many of a kind there as have room; how many."""
    if strategy == "STRICT_PACK":
        return int(min(kind.count, room.capacity(kind).max(initial=0)))
    nowhere = np.zeros(room.size, dtype=np.int64)
    each = dealt(room, kind, nowhere, np.array([kind.count], dtype=np.int64), strategy)
    room.take(kind, each)
    return int(each.sum())

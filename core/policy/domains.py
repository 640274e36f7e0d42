"""Where the bundles of a placement group go among domains: switches, racks, NVLink domains, TPU slices.

A group says how it wants the values of a label as it says how it wants nodes. All in one domain is STRICT_PACK, in few
PACK, evenly over many SPREAD, each in one of its own STRICT_SPREAD. A group that says nothing of labels has PACK
and STRICT_SPREAD near in the tree that is known, where that costs no further node. Several plans are made, and the best
is taken. The one that ignores the topology is among them, so that none is worse for knowing it. Rejected: an exact
search, which has no bound.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from hpc.core.policy.placement import Column, Snapshot
from hpc.core.policy.room import BundleKind, Counts, Room, dealt, level_out, match, on_nodes
from hpc.core.policy.topology import Level, together

#: The strategy of a group with respect to the values of a label: (label, strategy), the widest domain first.
Topology = Sequence[Sequence[str]]
#: Plans inside one domain that are tried where a group of many kinds could find room by its sums.
MAX_TRIES = 64
Inside = Callable[[Room, Sequence[BundleKind]], "Counts | None"]


class DomainWish:
    """What a group asks for: the labels of which it wants one value, one label at most with another strategy, the
    strategy over nodes. ValueError for what cannot be asked for."""

    def __init__(self, strategy: str, topology: Topology) -> None:
        self.strategy = strategy
        self.one = [key for key, how in topology if how == "STRICT_PACK"]
        others = [(key, how) for key, how in topology if how != "STRICT_PACK"]
        if len(others) > 1:
            named = " and ".join(f"{key}: {how}" for key, how in others)
            raise ValueError(f"one label at most can have a strategy other than STRICT_PACK, not {named}")
        self.key, self.how = others[0] if others else ("", "")

    @property
    def needs(self) -> list[str]:
        """The labels that a node must have."""
        return [*self.one, *([self.key] if self.how == "STRICT_SPREAD" else [])]


def plan(
    snapshot: Snapshot,
    room: Room,
    kinds: Sequence[BundleKind],
    strategy: str,
    topology: Topology,
    taken: Sequence[int],
    labels: Mapping[int, Mapping[str, str]],
) -> Counts | None:
    """How many of each kind each node of the room gets, by place in the room; None where there is no plan."""
    bound = bool(taken)
    if not topology:
        return _near(snapshot, room, kinds, strategy, bound)
    wish = DomainWish(strategy, topology)
    places = usable(snapshot, room, wish, taken, labels)
    if places is None:
        return None
    part = room.within(places)

    def inside(some: Room, of: Sequence[BundleKind]) -> Counts | None:
        if wish.how:
            return _by_label(snapshot, some, of, wish, taken, labels)
        return on_nodes(some, of, strategy, bound=bound)

    if wish.one:
        codes = together([snapshot.level(key) for key in wish.one])[part.rows]
        counts = one_domain(part, kinds, codes, strategy, inside)
    else:
        counts = inside(part, kinds)
    return None if counts is None else _spread_out(counts, places, room.size)


def _spread_out(counts: Counts, places: Column, size: int) -> Counts:
    """Counts of a part of a room as counts of the room."""
    whole = []
    for each in counts:
        column = np.zeros(size, dtype=np.int64)
        column[places] = each
        whole.append(column)
    return whole


def usable(
    snapshot: Snapshot,
    room: Room,
    wish: DomainWish,
    taken: Sequence[int],
    labels: Mapping[int, Mapping[str, str]],
) -> Column | None:
    """The places that have the labels, and that are in the domain of the bundles that stay. None where the domain of
    those is not known."""
    mask = np.ones(room.size, dtype=bool)
    for key in wish.needs:
        mask &= snapshot.level(key).codes[room.rows] >= 0
    for key in wish.one:
        values = values_of(snapshot, key, taken, labels)
        if not taken:
            continue
        names = snapshot.level(key).names
        if len(values) != 1 or not values <= {*names}:
            return None
        mask &= snapshot.level(key).codes[room.rows] == names.index(next(iter(values)))
    return np.flatnonzero(mask)


def values_of(snapshot: Snapshot, key: str, nodes: Sequence[int], labels: Mapping[int, Mapping[str, str]]) -> set[str]:
    """The values of a label that nodes have, as far as they are known."""
    found = (snapshot.labels.get(node) or labels.get(node) or {} for node in nodes)
    return {value for each in found if (value := each.get(key, ""))}


# ---------------------------------------------------------------- one domain


def one_domain(room: Room, kinds: Sequence[BundleKind], codes: Column, strategy: str, inside: Inside) -> Counts | None:
    """All in one domain: the one that is left fullest."""
    size = int(codes.max(initial=-1)) + 1
    if not size:
        return None
    for code in candidates(room, kinds, codes, strategy, size)[:MAX_TRIES].tolist():
        places = np.flatnonzero(codes == code)
        counts = inside(room.within(places), kinds)
        if counts is not None:
            return _spread_out(counts, places, room.size)
    return None


def candidates(room: Room, kinds: Sequence[BundleKind], codes: Column, strategy: str, size: int) -> Column:
    """The domains that could hold all by their sums, first the one that they leave fullest."""
    known = np.where(codes < 0, size, codes)
    sums: dict[str, int] = {}
    for kind in kinds:
        for name, units in kind.amounts.items():
            sums[name] = sums.get(name, 0) + units * kind.count
    possible = np.ones(size, dtype=bool)
    if strategy == "STRICT_SPREAD":
        possible = np.bincount(known, room.held == 0, size + 1)[:size] >= sum(kind.count for kind in kinds)
    for name, units in sums.items():
        if units:
            possible &= np.bincount(known, np.maximum(room.free[name], 0), size + 1)[:size] >= units
    order = np.zeros(size, dtype=np.int64)
    for kind in kinds:
        if not possible.any():
            break
        holds = held_by(room, kind, known, strategy, size + 1)[:size]
        possible &= holds >= kind.count
        order += holds
    found = np.flatnonzero(possible)
    return found[np.argsort(order[found], kind="stable")]


def held_by(room: Room, kind: BundleKind, codes: Column, strategy: str, size: int) -> Column:
    """How many of a kind each domain has room for."""
    most = room.capacity(kind)
    if strategy == "STRICT_SPREAD":
        most = np.minimum(most, 1) * (room.held == 0)
    if strategy == "STRICT_PACK":
        best = np.zeros(size, dtype=np.int64)
        np.maximum.at(best, codes, most)
        return best
    return np.bincount(codes, most, size).astype(np.int64)


# ---------------------------------------------------------------- few domains, many domains


def _by_label(
    snapshot: Snapshot,
    room: Room,
    kinds: Sequence[BundleKind],
    wish: DomainWish,
    taken: Sequence[int],
    labels: Mapping[int, Mapping[str, str]],
) -> Counts | None:
    """PACK, SPREAD or STRICT_SPREAD over the values of a label."""
    level, strategy, bound = snapshot.level(wish.key), wish.strategy, bool(taken)
    if wish.how == "STRICT_SPREAD":
        if strategy == "STRICT_PACK" and (bound or sum(kind.count for kind in kinds) > 1):
            return None  # one node is in one domain
        codes = level.codes[room.rows]
        closed = [level.names.index(v) for v in values_of(snapshot, wish.key, taken, labels) if v in level.names]
        size = int(codes.max(initial=-1)) + 1
        return match(room, kinds, codes, np.array([c for c in closed if c < size], dtype=np.int64))
    if strategy == "STRICT_PACK":
        return on_nodes(room, kinds, strategy, bound=bound)
    codes = _all_coded(level, room)
    size = int(codes.max(initial=-1)) + 1
    here = codes[room.held > 0]
    if wish.how == "SPREAD":
        return _many(room.copy(), kinds, codes, strategy, size) or on_nodes(room, kinds, strategy, bound=bound)
    wider = [each for each in snapshot.tree() if each.key != wish.key and _is_wider(each, level)]
    found = [_few(room.copy(), kinds, codes, strategy, size)]
    if not len(here):
        one = one_domain(room, kinds, codes, strategy, lambda some, of: on_nodes(some, of, strategy))
        if one is not None:
            return one
        for each in reversed(wider):
            near = one_domain(
                room, kinds, each.codes[room.rows], strategy,
                lambda some, of: _few(some, of, _all_coded(level, some), strategy, size),
            )  # fmt: skip
            if near is not None:
                found.append(near)
                break
    found.append(on_nodes(room.copy(), kinds, strategy, bound=bound))
    return _best(found, room, [level, *reversed(wider)], nodes_first=False)


def _is_wider(one: Level, other: Level) -> bool:
    return len(one.names) < len(other.names)


def _all_coded(level: Level, room: Room) -> Column:
    """The domain of each place. A node without the label is a domain of its own: nothing is known to be near it."""
    codes = level.codes[room.rows]
    return np.where(codes < 0, len(level.names) + np.arange(room.size), codes)


def _few(room: Room, kinds: Sequence[BundleKind], codes: Column, strategy: str, size: int) -> Counts | None:
    """In as few domains as the largest first need; the last is the smallest that holds the rest."""
    counts = []
    used = np.zeros(size, dtype=bool)
    used[codes[room.held > 0]] = True
    for kind in kinds:
        holds = held_by(room, kind, codes, strategy, size)
        wanted = np.zeros(size, dtype=np.int64)
        left = kind.count
        for those in (np.flatnonzero(used & (holds > 0)), np.flatnonzero(~used & (holds > 0))):
            order = those[np.argsort(-holds[those], kind="stable")]
            before = np.cumsum(holds[order]) - holds[order]
            wanted[order] = np.clip(left - before, 0, holds[order])
            partly = np.flatnonzero((wanted > 0) & (wanted < holds))
            if len(partly) and not used[partly[0]]:
                rest = int(wanted[partly[0]])
                enough = order[(wanted[order] == 0) & (holds[order] >= rest)]
                if len(enough) and holds[enough[-1]] < holds[partly[0]]:
                    least = enough[holds[enough] == holds[enough[-1]]][0]
                    wanted[partly[0]], wanted[least] = 0, rest
            left = kind.count - int(wanted.sum())
            if not left:
                break
        if left:
            return None
        used |= wanted > 0
        each = dealt(room, kind, codes, wanted, strategy)
        if int(each.sum()) < kind.count:
            return None
        room.take(kind, each)
        counts.append(each)
    return counts


def _many(room: Room, kinds: Sequence[BundleKind], codes: Column, strategy: str, size: int) -> Counts | None:
    """Evenly over the domains."""
    counts = []
    held = np.bincount(codes, room.held, size).astype(np.int64)
    everywhere = np.arange(size, dtype=np.int64)
    for kind in kinds:
        holds = np.minimum(held_by(room, kind, codes, strategy, size), kind.count)
        total = np.array([kind.count], dtype=np.int64)
        wanted = level_out(held, holds, np.zeros(size, dtype=np.int64), total, everywhere)
        each = dealt(room, kind, codes, wanted, strategy)
        if int(each.sum()) < kind.count:
            return None
        room.take(kind, each)
        held += np.bincount(codes, each, size).astype(np.int64)
        counts.append(each)
    return counts


# ---------------------------------------------------------------- near without being asked


def _near(snapshot: Snapshot, room: Room, kinds: Sequence[BundleKind], strategy: str, bound: bool) -> Counts | None:
    """A plan over nodes, as near as the tree allows without another node."""
    flat = on_nodes(room.copy(), kinds, strategy, bound=bound)
    levels = snapshot.tree()
    if flat is None or strategy in ("STRICT_PACK", "SPREAD") or not levels:
        return flat
    found: list[Counts | None] = [flat]
    if bound:
        for level in reversed(levels):
            codes = _all_coded(level, room)
            found.append(_few(room.copy(), kinds, codes, strategy, int(codes.max(initial=-1)) + 1))
        return _best(found, room, list(reversed(levels)), nodes_first=True)
    for at in reversed(range(len(levels))):
        finer = levels[at + 1 :][:1]

        def inside(some: Room, of: Sequence[BundleKind], finer: Sequence[Level] = finer) -> Counts | None:
            if not finer:
                return on_nodes(some, of, strategy)
            codes = _all_coded(finer[0], some)
            return _few(some, of, codes, strategy, int(codes.max(initial=-1)) + 1)

        near = one_domain(room, kinds, levels[at].codes[room.rows], strategy, inside)
        if near is not None:
            found.append(near)
            break
    else:
        codes = _all_coded(levels[0], room)
        found.append(_few(room.copy(), kinds, codes, strategy, int(codes.max(initial=-1)) + 1))
    return _best(found, room, list(reversed(levels)), nodes_first=True)


def _best(found: Sequence[Counts | None], room: Room, levels: Sequence[Level], *, nodes_first: bool) -> Counts | None:
    """The plan with the fewest nodes and domains: of each level in turn."""
    plans = [counts for counts in found if counts is not None]
    if len(plans) < 2:
        return plans[0] if plans else None

    def score(counts: Counts) -> tuple[int, ...]:
        used = room.held > 0
        for each in counts:
            used = used | (each > 0)
        domains = [len(np.unique(_all_coded(level, room)[used])) for level in levels]
        nodes = int(used.sum())
        return (nodes, *domains) if nodes_first else (domains[0], nodes, *domains[1:])

    return min(plans, key=score)

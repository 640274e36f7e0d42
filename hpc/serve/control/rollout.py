"""Which replicas begin and end next, so that a deployment becomes what it shall be: a function without state.

A change of code goes in steps: extra replicas first where a surge is allowed, else some of the old ones end first. What
a deployment has promised is kept: the replicas that take requests are never fewer than the floor because of a change.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from hpc.serve.schema import ReplicaState

#: In these states a replica takes requests. One that is recovered does, as far as anybody knows.
SERVING = frozenset(
    (ReplicaState.RUNNING, ReplicaState.UPDATING, ReplicaState.RECOVERING, ReplicaState.PENDING_MIGRATION)
)
ENDING = frozenset((ReplicaState.STOPPING, ReplicaState.STOPPED))


@dataclass(slots=True)
class Row:
    """A replica, or a gang of them, as far as it matters here. order: the later one began later. size: how many
    replicas it is."""

    id: str
    version: str
    state: ReplicaState
    node: str = ""
    ongoing: int = 0
    order: int = 0
    size: int = 1

    @property
    def serves(self) -> bool:
        """Whether it takes requests."""
        return self.state in SERVING

    @property
    def moves(self) -> bool:
        """Whether its node is about to be taken away."""
        return self.state is ReplicaState.PENDING_MIGRATION


@dataclass(slots=True)
class Wanted:
    """What a deployment shall be. good: the last version that was whole, which serves on where the new one fails.
    gangs: how many replicas of a version begin and end together, where it is more than one."""

    target: int
    version: str
    surge: int = 0
    batch: int = 1
    failed: bool = False
    good: str = ""
    gangs: Mapping[str, int] = field(default_factory=dict)

    @property
    def floor(self) -> int:
        """How many replicas take requests at least while old ones are replaced."""
        return self.target if self.surge else max(self.target - self.batch, 0)


@dataclass(slots=True)
class Plan:
    """What to do next: how many replicas, or gangs, of which version begin, and which ones end."""

    start: dict[str, int] = field(default_factory=dict)
    stop: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.stop) or any(self.start.values())


def in_gangs(count: int, size: int) -> int:
    """The number of replicas of as many whole gangs as are needed for a number of them."""
    return -(-count // size) * size


def by_gangs(wanted: Wanted, there: Iterable[int]) -> Wanted:
    """Steps of whole gangs. ``there``: the sizes of those that run.

    Where these are several, a step is as large as one of each: a smaller one could stop nothing, and leave no room."""
    own = wanted.gangs.get(wanted.version, 1)
    sizes = {own, *there}
    if sizes == {1}:
        return wanted
    least = own if len(sizes) == 1 else max(sizes) + own - 1
    surge = max(in_gangs(wanted.surge, own), least) if wanted.surge else 0
    return replace(wanted, surge=surge, batch=max(in_gangs(wanted.batch, own), least))


def surge_of(percent: int, target: int) -> int:
    """How many replicas there may be more than the target while a change goes on."""
    return math.ceil(target * percent / 100)


def batch_of(share: float, target: int) -> int:
    """How many replicas are replaced at a time without a surge."""
    return max(int(share * target), 1)


def plan(wanted: Wanted, rows: Iterable[Row]) -> Plan:
    """The next step. It is empty when the replicas are what they shall be, or have to be waited for."""
    live = [row for row in rows if row.state not in ENDING]
    moving = [row for row in live if row.moves]
    staying = [row for row in live if not row.moves]
    made = _frozen(wanted, staying) if wanted.failed else _rolled(wanted, staying, moving)
    if moving:
        gone = set(made.stop)
        there = sum(row.size for row in staying if row.serves and row.id not in gone)
        made.stop += within(moving, there + _size(moving) - wanted.target)
    return made


def _frozen(wanted: Wanted, staying: Sequence[Row]) -> Plan:
    """The new version has failed: what serves stays, and what is missing is of the good version, whose gangs may be
    larger than that."""
    kept = [row for row in staying if row.version == wanted.good or row.serves]
    stop = [row.id for row in staying if not (row.version == wanted.good or row.serves)]
    stop += victims(kept, _size(kept) - wanted.target)
    if not wanted.good:
        return Plan({}, stop)
    missing = in_gangs(max(wanted.target - _size(kept), 0), wanted.gangs.get(wanted.good, 1))
    return Plan({wanted.good: _whole(wanted, wanted.good, missing)}, stop)


def _rolled(wanted: Wanted, staying: Sequence[Row], moving: Sequence[Row]) -> Plan:
    new = [row for row in staying if row.version == wanted.version]
    old = [row for row in staying if row.version != wanted.version]
    if not old:
        missing = _whole(wanted, wanted.version, wanted.target - _size(new))
        return Plan({wanted.version: missing}, victims(new, _size(new) - wanted.target))
    extra = victims(new, _size(new) - wanted.target)  # the target has become smaller meanwhile
    kept = [row for row in new if row.id not in extra]
    serving_old = [row for row in old if row.serves]
    serving = _size(serving_old) + sum(row.size for row in kept if row.serves) + _size(moving)
    stop = [row.id for row in old if not row.serves]
    stop += victims(serving_old, serving - wanted.floor)
    left = [row for row in old if row.id not in stop]
    room = wanted.target + wanted.surge - _size(kept) - _size(left)
    idle = [row for row in kept if not row.serves]
    extra += victims(idle, in_gangs(-room, wanted.gangs.get(wanted.version, 1)))  # old ones that serve need their place
    return Plan({wanted.version: _whole(wanted, wanted.version, min(wanted.target - _size(kept), room))}, stop + extra)


def _size(rows: Iterable[Row]) -> int:
    """How many replicas they are."""
    return sum(row.size for row in rows)


def _whole(wanted: Wanted, version: str, count: int) -> int:
    """How many gangs a number of replicas is, those that are not whole left out."""
    return max(count, 0) // wanted.gangs.get(version, 1)


def victims(rows: Sequence[Row], count: int) -> list[str]:
    """Which of them to end: those that take no requests, on the emptiest nodes, with the least to do, the newest. They
    are as many replicas at most."""
    if count <= 0:
        return []
    crowd = Counter(row.node for row in rows)
    ranked = sorted(rows, key=lambda row: (row.serves, crowd[row.node], row.ongoing, -row.order))
    return within(ranked, count)


def within(rows: Iterable[Row], count: int) -> list[str]:
    """The first of them that are as many replicas together, or fewer."""
    found = []
    for row in rows:
        if row.size <= count:
            found.append(row.id)
            count -= row.size
    return found

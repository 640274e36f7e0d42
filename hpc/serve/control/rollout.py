"""Which replicas begin and end next, so that a deployment becomes what it shall be: a function without state.

A change of code goes in steps: extra replicas first where a surge is allowed, else some of the old ones end first. What
a deployment has promised is kept: the replicas that take requests are never fewer than the floor because of a change.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from hpc.serve.schema import ReplicaState

#: In these states a replica takes requests. One that is recovered does, as far as anybody knows.
SERVING = frozenset(
    (ReplicaState.RUNNING, ReplicaState.UPDATING, ReplicaState.RECOVERING, ReplicaState.PENDING_MIGRATION)
)
ENDING = frozenset((ReplicaState.STOPPING, ReplicaState.STOPPED))


@dataclass(slots=True)
class Row:
    """A replica, as far as it matters here. order: the later one began later."""

    id: str
    version: str
    state: ReplicaState
    node: str = ""
    ongoing: int = 0
    order: int = 0

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
    """What a deployment shall be. good: the last version that was whole, which serves on where the new one fails."""

    target: int
    version: str
    surge: int = 0
    batch: int = 1
    failed: bool = False
    good: str = ""

    @property
    def floor(self) -> int:
        """How many replicas take requests at least while old ones are replaced."""
        return self.target if self.surge else max(self.target - self.batch, 0)


@dataclass(slots=True)
class Plan:
    """What to do next: how many replicas of which version begin, and which ones end."""

    start: dict[str, int] = field(default_factory=dict)
    stop: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.stop) or any(self.start.values())


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
        there = sum(row.serves for row in staying if row.id not in gone)
        made.stop += [row.id for row in moving[: max(there + len(moving) - wanted.target, 0)]]
    return made


def _frozen(wanted: Wanted, staying: Sequence[Row]) -> Plan:
    """The new version has failed: what serves stays, and what is missing is of the good version."""
    kept = [row for row in staying if row.version == wanted.good or row.serves]
    stop = [row.id for row in staying if not (row.version == wanted.good or row.serves)]
    if not wanted.good:
        return Plan({}, stop + victims(kept, len(kept) - wanted.target))
    return Plan(
        {wanted.good: max(wanted.target - len(kept), 0)},
        stop + victims(kept, len(kept) - wanted.target),
    )


def _rolled(wanted: Wanted, staying: Sequence[Row], moving: Sequence[Row]) -> Plan:
    new = [row for row in staying if row.version == wanted.version]
    old = [row for row in staying if row.version != wanted.version]
    if not old:
        missing = max(wanted.target - len(new), 0)
        return Plan({wanted.version: missing}, victims(new, len(new) - wanted.target))
    extra = victims(new, len(new) - wanted.target)  # the target has become smaller meanwhile
    kept = [row for row in new if row.id not in extra]
    serving_old = [row for row in old if row.serves]
    serving = len(serving_old) + sum(row.serves for row in kept) + len(moving)
    stop = [row.id for row in old if not row.serves]
    stop += victims(serving_old, min(max(serving - wanted.floor, 0), len(serving_old)))
    room = wanted.target + wanted.surge - len(kept) - (len(old) - len(stop))
    idle = [row for row in kept if not row.serves]
    extra += victims(idle, min(-room, len(idle)))  # the old ones that have to serve yet need their place
    start = max(min(wanted.target - len(kept), room), 0)
    return Plan({wanted.version: start}, stop + extra)


def victims(rows: Sequence[Row], count: int) -> list[str]:
    """Which of them to end: those that take no requests, on the emptiest nodes, with the least to do, the newest."""
    if count <= 0:
        return []
    crowd = Counter(row.node for row in rows)
    ranked = sorted(rows, key=lambda row: (row.serves, crowd[row.node], row.ongoing, -row.order))
    return [row.id for row in ranked[:count]]

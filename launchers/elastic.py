"""When a session asks for further jobs with nodes, and which of them it gives back: the policy, without I/O or a clock.

A *further job* is a batch job beside the one that the session began in. All of them are alike, and each has the same
number of nodes. The head reports what waits and how much each node is in use (core/head/upward.py). From that follows
how many nodes more could be used. A job is asked for when that was so for a while. It is given back as a whole, once
all its nodes have been idle for a while. First they are vacated, which can be taken back, and then the job is ended.

Three things keep it from asking and giving back by turns. Both need a time in which nothing else is true. Nodes that
are on their way count as if they were there. Nodes that came and stayed idle while the same things waited did not help:
that is not tried again for a while, each time longer.

Rejected: targets by utilization (tasks of seconds would ask for hours). Rejected too: jobs of a size made to measure.
One large job waits longest, and can be given back only when all of it is idle.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hpc.core.accelerators.base import INSTANCE_RESOURCES
from hpc.core.pieces import of_amount, times
from hpc.core.resources import Amounts, fits, how_many, show

#: After a refusal nothing is asked for during this time, and each time in a row twice as long, up to the second.
RETRY_S, RETRY_MOST_S = 30.0, 1800.0
#: A further job all of whose nodes are lost within this time (and in the first half of its own) came to nothing: that
#: counts as a refusal.
LASTS_S = 60.0
#: How long a node that is being vacated may take until its last worker has ended.
LEAVE_S = 30.0
#: A session that ends sooner than this asks for nothing.
WORTH_S = 30.0
#: Resources that stand for one node only.
OWN = "node:"

JobState = Literal["asked", "there", "leaving", "ending"]
#: As in `hpc.core.wire.nodes.Vacancy`; or it drains, or nothing was heard from it for a while.
UseState = Literal["used", "idle", "leaving", "empty", "draining", "silent"]


@dataclass(frozen=True)
class Limits:
    """least, most: nodes of the session, those of its first job among them. of_each: nodes of one further job.

    grow_after_s: work has to wait so long before nodes are asked for. idle_s: nodes have to be idle so long before they
    are given back. soon_s: a job that ends within this time counts as gone. job_s: how long a further job lasts.
    """

    least: int
    most: int
    of_each: int = 1
    grow_after_s: float = 5.0
    idle_s: float = 300.0
    soon_s: float = 0.0
    job_s: float | None = None


@dataclass(frozen=True)
class NodeUse:
    """How much a node is in use, `since` then. `kind`: its resources, by their number among the kinds of the report."""

    state: UseState
    since: float
    kind: int = -1
    keeps: bool = False


@dataclass(frozen=True)
class Waiting:
    """`count` demands for the same amounts that find no room. elsewhere: a node that joins could serve them."""

    amounts: Amounts
    count: int
    time_s: float = 0.0
    elsewhere: bool = True


@dataclass(frozen=True)
class GroupWaiting:
    """A placement group's bundles that are nowhere: amounts, and how many of these."""

    strategy: str
    bundles: tuple[tuple[Amounts, int], ...]


@dataclass(frozen=True)
class DemandReport:
    """A report of the head; times are those of the clock of whoever took it in."""

    nodes: Mapping[int, NodeUse] = field(default_factory=dict)
    kinds: Sequence[Amounts] = ()
    waiting: Sequence[Waiting] = ()
    groups: Sequence[GroupWaiting] = ()
    room: Sequence[tuple[Amounts, int]] = ()
    more: int = 0

    @classmethod
    def of(cls, report: Mapping[str, Any], now: float) -> DemandReport:
        """Read a report that has just come."""
        return cls(
            {int(n): NodeUse(state, now - age, int(kind), bool(keeps)) for n, state, age, kind, keeps in
             report["nodes"]},
            [dict(amounts) for amounts in report["kinds"]],
            [Waiting(dict(amounts), int(n), float(time_s), bool(other)) for amounts, n, time_s, other in
             report["shapes"]],
            [GroupWaiting(str(s), tuple((dict(b), int(n)) for b, n in bundles)) for s, bundles in report["groups"]],
            [(dict(amounts), int(n)) for amounts, n in report["room"]],
            int(report["more"]),
        )  # fmt: skip


@dataclass
class FurtherJob:
    """A further job. `numbers` are those of its nodes once they have come. `rest_until`: it is not vacated before."""

    name: str
    size: int
    state: JobState
    since: float
    numbers: tuple[int, ...] = ()
    seen: set[int] = field(default_factory=set)
    ends_at: float | None = None
    rest_until: float = 0.0
    came_at: float | None = None
    proven: bool = False  # it has lasted, and that was minded

    def lasted(self, now: float) -> bool:
        """Whether its nodes have been there for so long that they cannot have come for nothing."""
        if self.came_at is None:
            return False
        return now - self.came_at >= LASTS_S or (self.ends_at is not None and now > (self.came_at + self.ends_at) / 2)

    def live(self, demand: DemandReport) -> list[int]:
        """Its nodes that are there, or have come and not been reported yet."""
        return [n for n in self.numbers if n in demand.nodes or n not in self.seen]


@dataclass(frozen=True)
class Decision:
    """ask: the sizes of jobs to ask for. cancel: jobs that have not come and are not wanted any more. end: jobs whose
    nodes are empty. vacate: all nodes that are to be vacated, or to stay so. why: what is asked for and why, for
    people; "" where nothing waits."""

    ask: tuple[int, ...] = ()
    cancel: tuple[str, ...] = ()
    end: tuple[str, ...] = ()
    vacate: frozenset[int] = frozenset()
    why: str = ""


@dataclass(frozen=True)
class Need:
    """Fresh nodes that could be used: for placement groups, for single demands beside these. unfit: what no such node
    can serve, in words."""

    groups: int = 0
    singles: int = 0
    unfit: tuple[str, ...] = ()


def need_of(demand: DemandReport, node: Amounts, most: int, job_s: float | None = None) -> Need:
    """How many nodes with these amounts could be used by what waits, at most `most`."""
    fresh: list[Amounts] = []
    unfit: list[str] = []
    room = [dict(amounts) for amounts, count in demand.room for _ in range(min(count, most + 1))]
    for group in demand.groups:
        if not _place_group(group, room, fresh, node, most):
            bundles = ", ".join(f"{n} x {{{show(amounts)}}}" for amounts, n in group.bundles[:3])
            unfit.append(f"a placement group ({group.strategy}: {bundles})")
    groups = len(fresh)
    for one in sorted(demand.waiting, key=lambda one: -sum(one.amounts.values())):
        if not one.elsewhere or not fits(node, one.amounts) or (job_s is not None and one.time_s > job_s):
            where = "" if one.elsewhere else " on nodes that are there"
            unfit.append(f"{one.count} for {{{show(one.amounts)}}}{where}")
            continue
        left = one.count
        for free in fresh:
            left -= _take(free, one.amounts, left)
        while left and len(fresh) < most:
            fresh.append(dict(node))
            left -= _take(fresh[-1], one.amounts, left)
    return Need(groups, len(fresh) - groups, tuple(unfit))


def _shorter(one: float | None, other: float | None) -> float | None:
    """Of two times of which None is no limit."""
    return other if one is None else one if other is None else min(one, other)


def _take(free: Amounts, wanted: Amounts, limit: int) -> int:
    count = how_many(free, wanted, limit)
    for name in INSTANCE_RESOURCES:
        if wanted.get(name):  # a fraction is of one device
            count = min(count, times(of_amount(free.get(name, 0)), wanted[name]))
    for name, units in wanted.items() if count else ():
        if units:
            free[name] -= units * count
    return count


def _place_group(group: GroupWaiting, room: list[Amounts], fresh: list[Amounts], node: Amounts, most: int) -> bool:
    """Put all bundles somewhere, or none of them: then nothing has changed."""
    before = [dict(free) for free in room], [dict(free) for free in fresh]
    bundles = group.bundles
    if group.strategy == "STRICT_PACK":
        together: Amounts = {}
        for amounts, count in bundles:
            for name, units in amounts.items():
                together[name] = together.get(name, 0) + units * count
        bundles = ((together, 1),)
    taken: set[int] = set()
    apart = group.strategy == "STRICT_SPREAD"
    for amounts, count in bundles:
        for free in [*room, *fresh]:
            if count and not (apart and id(free) in taken):
                placed = _take(free, amounts, 1 if apart else count)
                count -= placed
                if placed:
                    taken.add(id(free))
        while count and len(fresh) < most and fits(node, amounts):
            fresh.append(dict(node))
            count -= _take(fresh[-1], amounts, 1 if apart else count)
            taken.add(id(fresh[-1]))
        if count:
            room[:], fresh[:] = before
            return False
    return True


class Policy:
    """Decides; it remembers the further jobs, and since when something is so."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.jobs: dict[str, FurtherJob] = {}
        self._needed_since: float | None = None
        self._spare_since: float | None = None
        self._refusals = 0
        self._retry_at = float("-inf")
        self._futile = 0
        self._futile_until = float("-inf")

    # -------------------------------------------------------------- what has become of jobs

    def asked(self, name: str, size: int, now: float) -> None:
        """A job was asked for."""
        self.jobs[name] = FurtherJob(name, size, "asked", now)

    def joined(self, name: str, numbers: Iterable[int], ends_at: float | None, now: float) -> None:
        """A job's nodes have begun to join, under these numbers."""
        job = self.jobs[name]
        job.numbers, job.ends_at = tuple(numbers), ends_at
        job.size = len(job.numbers)
        job.state, job.since = "there", now
        job.came_at = now

    def refused(self, name: str, now: float) -> float:
        """A job that was asked for will not come. Returns for how long nothing is asked for from now on; 0 if that was
        so already, since what is refused together counts once."""
        self.jobs.pop(name, None)
        if now < self._retry_at:
            return 0.0
        pause_s = min(RETRY_MOST_S, RETRY_S * 2.0**self._refusals)
        self._retry_at = now + pause_s
        self._refusals += 1
        return pause_s

    def withdrawn(self, name: str) -> None:
        """A job that was asked for is not wanted any more."""
        self.jobs.pop(name, None)

    def lost(self, number: int, now: float) -> float:
        """A node of a further job is gone, or will not come; with the last one the job is over.

        Returns for how long nothing is asked for: not 0 where the job was over as soon as it came.
        """
        pause_s = 0.0
        for job in [job for job in self.jobs.values() if number in job.numbers]:
            job.numbers = tuple(n for n in job.numbers if n != number)
            if not job.numbers:
                del self.jobs[job.name]
                if job.state != "ending" and not job.lasted(now):
                    pause_s = self.refused(job.name, now)
        return pause_s

    # -------------------------------------------------------------- deciding

    def decide(self, demand: DemandReport, now: float, left_s: float | None = None) -> Decision:
        """What is to be done now. left_s: how long the session lasts."""
        limits = self.limits
        for job in self.jobs.values():
            job.seen.update(n for n in job.numbers if n in demand.nodes)
            if job.seen and not job.proven and job.lasted(now):
                job.proven = True
                self._refusals, self._retry_at = 0, float("-inf")
        node = self._node(demand)
        need = need_of(demand, node, limits.most, _shorter(limits.job_s, left_s))
        if not need.singles:
            self._futile, self._futile_until = 0, float("-inf")
        useful = need.groups + (need.singles if now >= self._futile_until else 0)
        there, staying = self._count(demand, now)
        unseen = sum(1 for job in self.jobs.values() for n in job.live(demand) if n not in demand.nodes)
        asked = sum(job.size for job in self.jobs.values() if job.state == "asked")
        want = max(useful - asked - unseen, limits.least - there - asked)
        if want > 0:
            want -= self._take_back(want, now)
        end = self._look_after_leaving(demand, now)
        want = min(want, limits.most - len(demand.nodes) - unseen - asked)
        ask = self._ask(want, now, left_s)
        cancel = self._cancel(asked - max(0, useful - unseen, limits.least - there), now)
        if want <= 0 and not need.groups:
            self._give_back(demand, staying - limits.least, bool(need.singles), now)
        vacate = frozenset(n for job in self.jobs.values() if job.state in ("leaving", "ending") for n in job.numbers)
        return Decision(ask, cancel, end, vacate, self._why(demand, need, node))

    def _node(self, demand: DemandReport) -> Amounts:
        """What a fresh node would have: as the last one of a further job, else as the last one of all."""
        further = {n for job in self.jobs.values() for n in job.numbers}
        known = [n for n in demand.nodes if demand.nodes[n].kind >= 0]
        best = max((n for n in known if n in further), default=max(known, default=0))
        if best:
            amounts = demand.kinds[demand.nodes[best].kind]
            self._last_node = {name: units for name, units in amounts.items() if not name.startswith(OWN)}
        return self._last_node

    _last_node: Amounts = {}

    def _count(self, demand: DemandReport, now: float) -> tuple[int, int]:
        """The nodes that the session has, and those of them that stay with it."""
        of_jobs = {n for job in self.jobs.values() for n in job.numbers}
        first = sum(1 for n, use in demand.nodes.items() if n not in of_jobs and use.state != "draining")
        there = staying = first
        for job in self.jobs.values():
            live = [n for n in job.live(demand) if n not in demand.nodes or demand.nodes[n].state != "draining"]
            ends = job.ends_at is not None and job.ends_at - now < self.limits.soon_s
            there += 0 if ends else len(live)
            staying += 0 if ends or job.state != "there" else len(live)
        return there, staying

    def _take_back(self, want: int, now: float) -> int:
        """Jobs that are being vacated are used again, before others are asked for."""
        back = 0
        for job in self.jobs.values():
            if job.state == "leaving" and back < want:
                job.state, job.rest_until = "there", now + self.limits.idle_s
                back += len(job.numbers)
        return back

    def _look_after_leaving(self, demand: DemandReport, now: float) -> tuple[str, ...]:
        """Jobs all of whose nodes are empty are to be ended; those that are in use again stay."""
        end: list[str] = []
        for job in self.jobs.values():
            if job.state != "leaving":
                continue
            uses = [demand.nodes[n] for n in job.live(demand) if n in demand.nodes]
            if all(use.state in ("empty", "draining") for use in uses):
                job.state = "ending"
                end.append(job.name)
            elif any(use.state == "used" for use in uses) or now - job.since > LEAVE_S:
                job.state, job.rest_until = "there", now + self.limits.idle_s
        return tuple(end)

    def _ask(self, want: int, now: float, left_s: float | None) -> tuple[int, ...]:
        if want <= 0:
            self._needed_since = None
            return ()
        if self._needed_since is None:
            self._needed_since = now
        late = left_s is not None and left_s < max(WORTH_S, self.limits.soon_s)
        if now - self._needed_since < self.limits.grow_after_s or now < self._retry_at or late:
            return ()
        self._needed_since = None
        each = self.limits.of_each
        return tuple(min(each, want - at) for at in range(0, want, each))

    def _cancel(self, spare: int, now: float) -> tuple[str, ...]:
        """Jobs that wait in the queue for nothing, the newest first."""
        if spare <= 0:
            self._spare_since = None
            return ()
        if self._spare_since is None:
            self._spare_since = now
        if now - self._spare_since < self.limits.idle_s:
            return ()
        found: list[str] = []
        for job in sorted(self.jobs.values(), key=lambda job: -job.since):
            if job.state == "asked" and job.size <= spare:
                spare -= job.size
                found.append(job.name)
        return tuple(found)

    def _give_back(self, demand: DemandReport, spare: int, in_vain: bool, now: float) -> None:
        """Begin to vacate jobs that have been idle for long enough: first those without values, then those that end
        soonest."""
        idle: list[tuple[bool, float, float, FurtherJob]] = []
        for job in self.jobs.values():
            uses = [demand.nodes.get(n) for n in job.live(demand)]
            if job.state != "there" or now < job.rest_until or not uses:
                continue
            found = [use for use in uses if use is not None and use.state == "idle"]
            since = max((use.since for use in found), default=now)
            if len(found) == len(uses) and now - since >= self.limits.idle_s:
                ends_at = job.ends_at if job.ends_at is not None else float("inf")
                idle.append((any(use.keeps for use in found), ends_at, since, job))
        for *_, job in sorted(idle, key=lambda each: each[:3]):
            if len(job.live(demand)) <= spare:
                spare -= len(job.live(demand))
                job.state, job.since = "leaving", now
                if in_vain:  # it was idle although something waited: such nodes do not help that
                    self._futile_until = now + min(RETRY_MOST_S, self.limits.idle_s * 2.0**self._futile)
                    self._futile += 1

    def _why(self, demand: DemandReport, need: Need, node: Amounts) -> str:
        parts = []
        if count := sum(one.count for one in demand.waiting) + demand.more:
            kinds = [f"{one.count} for {{{show(one.amounts)}}}" for one in demand.waiting[:3]]
            parts.append(f"work waits for {count} workers ({', '.join(kinds)})")
        if demand.groups:
            parts.append(f"{len(demand.groups)} placement groups wait")
        if need.unfit:
            parts.append(f"no node like these would help {'; '.join(need.unfit[:3])} (one has {{{show(node)}}})")
        return "; ".join(parts)

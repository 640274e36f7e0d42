"""The replicas of one deployment: what is known of each, which code they run, how often they failed."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from hpc.serve.control.autoscale import Load, Scaler, bounds, capacity_of
from hpc.serve.control.helpers import Helper
from hpc.serve.control.rollout import ENDING, SERVING, Row, Wanted, batch_of, by_gangs, in_gangs, surge_of
from hpc.serve.gang import GangContext
from hpc.serve.messages import DeploymentID, ReplicaFacts, ReplicaID, ReplicaStats
from hpc.serve.schema import DeploymentStatus, DeploymentStatusTrigger, ReplicaState
from hpc.serve.specs import DeploymentSpec

#: Checks in a row that a replica fails before another one takes its place: Ray's number.
MISSES = 3
#: Waits between attempts to make a replica: the first is made at once, then each wait is twice the one before.
BACKOFF_S, MAX_BACKOFF_S = 0.2, 30.0
#: A replica that dies younger than this has failed as its constructor might have.
YOUNG_S = 10.0
#: A gang is as the first of these states that one of its members is in.
_WORST_FIRST = (
    ReplicaState.STOPPING,
    ReplicaState.STOPPED,
    ReplicaState.STARTING,
    ReplicaState.PENDING_MIGRATION,
    ReplicaState.UPDATING,
    ReplicaState.RECOVERING,
)
_NO_FACTS, _NO_STATS = ReplicaFacts(0, "", ""), ReplicaStats(0)


@dataclass(slots=True)
class Replica:
    """A replica. epoch: of the configuration that it has. order: the later one began later. actor: its pickled handle.
    ended: its actor was told to end. gang: what it knows of the others that begin and end with it."""

    id: ReplicaID
    version: str
    epoch: int
    rank: int
    order: int
    state: ReplicaState = ReplicaState.STARTING
    began: float = 0.0
    facts: ReplicaFacts = _NO_FACTS
    stats: ReplicaStats = _NO_STATS
    actor: bytes = b""
    misses: int = 0
    is_asked: bool = False
    next_check: float = 0.0
    asked_epoch: int = 0
    ended: bool = False
    gang: GangContext | None = None

    @property
    def serves(self) -> bool:
        """Whether it takes requests."""
        return self.state in SERVING

    @property
    def lives(self) -> bool:
        """Whether it is not about to end."""
        return self.state not in ENDING

    @property
    def unit(self) -> str:
        """What it begins and ends with: its gang, or itself."""
        return self.id.unique_id if self.gang is None else self.gang.gang_id


@dataclass
class Deployment:
    """A deployment. spec: what it shall be; specs: of all versions that replicas run; good: the last version that was
    whole, with the configuration of good_epoch. target: how many replicas, before the capacity. epoch: rises with each
    configuration. failures: attempts in a row that failed, of the newest version; crashes: replicas in a row that died
    young. failed: nothing more begins. helpers: the actors that replicas of a version share, by its version and their
    names; helper_failures: attempts in a row to make one that failed.
    """

    id: DeploymentID
    spec: DeploymentSpec
    target: int
    epoch: int = 1
    good: str = ""
    good_epoch: int = 0
    specs: dict[str, DeploymentSpec] = field(default_factory=dict)
    replicas: dict[str, Replica] = field(default_factory=dict)
    made: int = 0
    failures: int = 0
    crashes: int = 0
    retry_at: float = 0.0
    failed: bool = False
    deleting: bool = False
    table_version: int = 0
    told: tuple[Any, ...] = ()
    status: DeploymentStatus = DeploymentStatus.UPDATING
    trigger: DeploymentStatusTrigger = DeploymentStatusTrigger.CONFIG_UPDATE_STARTED
    message: str = ""
    load: Load = field(default_factory=Load)
    scaler: Scaler = field(default_factory=Scaler)
    helpers: dict[tuple[str, str], Helper] = field(default_factory=dict)
    helper_failures: int = 0

    def __post_init__(self) -> None:
        self.specs.setdefault(self.spec.code_version, self.spec)

    # -------------------------------------------------------------- what there is

    @property
    def live(self) -> list[Replica]:
        """Replicas that are not about to end."""
        return [one for one in self.replicas.values() if one.lives]

    @property
    def serving(self) -> list[Replica]:
        """Replicas that take requests: of a gang none does before all of its members can."""
        found = [one for one in self.replicas.values() if one.serves]
        if not any(one.gang is not None for one in found):
            return found
        there = Counter(one.unit for one in found)
        return [one for one in found if one.gang is None or there[one.unit] == one.gang.world_size]

    def wanted(self, share: float) -> Wanted:
        """What it shall be now."""
        config, target = self.spec.config, self.wanted_count(share)
        made = Wanted(
            target,
            self.spec.code_version,
            surge_of(config.max_surge_percent, target),
            batch_of(config.rolling_update_percentage, target),
            self.failed,
            "" if self.good == self.spec.code_version and not self.is_proven else self.good,
            {version: spec.config.gang_size for version, spec in self.specs.items()},
        )
        return by_gangs(made, self.sizes)

    @property
    def is_proven(self) -> bool:
        """Whether all of its replicas have served once as it shall be now: with this code and this configuration."""
        return (self.good, self.good_epoch) == (self.spec.code_version, self.epoch)

    def wanted_count(self, share: float) -> int:
        """How many replicas it shall have at this share of the capacity. The bounds of one that scales are its part."""
        if self.deleting:
            return 0
        scaling = self.spec.config.autoscaling_config
        size = self.spec.config.gang_size
        if scaling is None:
            return in_gangs(capacity_of(self.target, share), size)
        least, most = bounds(scaling, share)
        return in_gangs(self.target if share >= 1 else min(max(self.target, least), most), size)

    def rows(self) -> list[Row]:
        """The replicas, for a plan; those of a gang are one row."""
        gangs: dict[str, list[Replica]] = {}
        for one in self.replicas.values():
            gangs.setdefault(one.unit, []).append(one)
        return [self._row(unit, members) for unit, members in gangs.items()]

    def _row(self, unit: str, members: list[Replica]) -> Row:
        one = members[0]
        state, ongoing, size = one.state, sum(map(self.ongoing, members)), 1
        if one.gang is not None:
            size = one.gang.world_size
            states = [*(each.state for each in members), *([ReplicaState.STOPPING] * (len(members) < size))]
            state = next((kind for kind in _WORST_FIRST if kind in states), ReplicaState.RUNNING)
        return Row(unit, one.version, state, one.facts.node, ongoing, one.order, size)

    @property
    def sizes(self) -> set[int]:
        """The sizes of the gangs of its replicas; 1 where these are alone."""
        return {1 if one.gang is None else one.gang.world_size for one in self.replicas.values()}

    def members(self, unit: str) -> list[Replica]:
        """The replicas of a gang, or the one that is in none."""
        found = self.replicas.get(unit)
        return [found] if found is not None else [one for one in self.replicas.values() if one.unit == unit]

    def ongoing(self, one: Replica) -> int:
        """How many requests it has, as far as anybody knows."""
        return max(self.load.ongoing(one.id.unique_id), one.stats.ongoing)

    def is_whole(self, share: float) -> bool:
        """Whether all of its replicas take requests, with the newest code and configuration, and are as many as they
        shall be. So are the actors that they share."""
        live = self.live
        there = all(self.helpers[key].runs if key in self.helpers else False for key in self.helper_keys())
        return (
            (there or self.deleting)
            and len(live) == self.wanted_count(share)
            and all(
                one.version == self.spec.code_version
                and one.epoch == self.epoch
                and one.state in (ReplicaState.RUNNING, ReplicaState.RECOVERING)
                for one in live
            )
        )

    def helper_keys(self, version: str = "") -> list[tuple[str, str]]:
        """The actors that replicas of a version share, by their keys; of the newest where none is named."""
        version = version or self.spec.code_version
        spec = self.specs.get(version, self.spec)
        return [(version, helper.name) for helper in spec.helpers]

    def states(self) -> dict[ReplicaState, int]:
        """How many replicas are in each state."""
        return dict(Counter(one.state for one in self.replicas.values()))

    def full_nodes(self) -> tuple[str, ...]:
        """The nodes that have as many replicas as one may."""
        most = self.spec.config.max_replicas_per_node
        if most is None:
            return ()
        crowd = Counter(one.facts.node for one in self.replicas.values() if one.facts.node)
        return tuple(sorted(node for node, count in crowd.items() if count >= most))

    # -------------------------------------------------------------- what changes

    def update(self, spec: DeploymentSpec) -> None:
        """It shall be so from now on."""
        before, target = self.spec, self.target
        scaling = spec.config.autoscaling_config
        if scaling is None:
            self.target = spec.config.num_replicas
        else:
            self.target = in_gangs(min(max(target, scaling.min_replicas), scaling.max_replicas), spec.config.gang_size)
        if spec.code_version != before.code_version or self.failed:
            self.new_spec(spec)
            return
        is_same = for_replicas(spec) == for_replicas(before)
        self.spec = self.specs[spec.code_version] = spec
        if not is_same:
            self.epoch += 1
            self.set_status(DeploymentStatus.UPDATING, DeploymentStatusTrigger.CONFIG_UPDATE_STARTED)
        elif self.target != target:
            status = DeploymentStatus.UPSCALING if self.target > target else DeploymentStatus.DOWNSCALING
            self.set_status(status, DeploymentStatusTrigger.CONFIG_UPDATE_STARTED)
        elif spec.config != before.config:
            self.set_status(DeploymentStatus.UPDATING, DeploymentStatusTrigger.CONFIG_UPDATE_STARTED)

    def new_spec(self, spec: DeploymentSpec) -> None:
        """It shall be so, whatever it was: what has failed is tried again."""
        self.spec = self.specs[spec.code_version] = spec
        self.epoch += 1
        self.failed, self.failures, self.crashes, self.helper_failures, self.retry_at = False, 0, 0, 0, 0.0
        self.set_status(DeploymentStatus.UPDATING, DeploymentStatusTrigger.CONFIG_UPDATE_STARTED)

    def new_replica(self, unique: str, version: str, now: float, gang: GangContext | None = None) -> Replica:
        """A replica that begins, with the smallest rank that is free."""
        taken = {one.rank for one in self.live}
        rank = next(rank for rank in range(len(taken) + 1) if rank not in taken)
        self.made += 1
        epoch = self.epoch if version == self.spec.code_version else 0
        one = Replica(ReplicaID(unique, self.id), version, epoch, rank, self.made, began=now, gang=gang)
        self.replicas[unique] = one
        return one

    def misplaced(self) -> list[tuple[Replica, int]]:
        """Replicas with a rank that they shall change, and to which one: ranks are 0 to the number of replicas."""
        live = sorted(self.live, key=lambda one: one.rank)
        free = sorted(set(range(len(live))) - {one.rank for one in live})
        return list(zip([one for one in reversed(live) if one.rank >= len(live)], free))

    def wait(self, attempts: int, now: float) -> None:
        """A number of attempts in a row have failed: the next one waits, unless it is the second."""
        if attempts > 1:
            self.retry_at = now + min(BACKOFF_S * 2 ** min(attempts - 2, 20), MAX_BACKOFF_S)

    def note_end(self, one: Replica, now: float) -> None:
        """A replica that served has died."""
        self.note_young_end(one.began, now)

    def note_young_end(self, began: float, now: float) -> None:
        """Something of it has died: it has crashed if that was soon after its beginning."""
        self.crashes = self.crashes + 1 if now - began < YOUNG_S else 0
        self.wait(self.crashes, now)

    def running_state(self, one: Replica, leaving: Collection[str]) -> ReplicaState:
        """The state of a replica that has begun."""
        return ReplicaState.PENDING_MIGRATION if one.facts.node in leaving else ReplicaState.RUNNING

    @property
    def is_placing(self) -> bool:
        """Whether the place of a replica has to be known before another one begins."""
        return self.spec.config.max_replicas_per_node is not None and any(not one.facts.node for one in self.live)

    @property
    def most_failures(self) -> int:
        """How many failures in a row end the attempt."""
        return min(3 * max(self.target, 1), self.spec.config.max_constructor_retry_count)

    def jitter(self, one: Replica) -> float:
        """How long until its next check: the period, and up to a tenth less or more, by its name."""
        share = (zlib.crc32(one.id.unique_id.encode()) & 0xFFFF) / 0xFFFF
        return self.spec.config.health_check_period_s * (0.9 + 0.2 * share)

    def set_status(self, status: DeploymentStatus, trigger: DeploymentStatusTrigger, message: str = "") -> None:
        """It stands so from now on."""
        self.status, self.trigger, self.message = status, trigger, message

    def become_healthy(self) -> None:
        """It is whole with its newest version, which is a good one."""
        self.good, self.good_epoch = self.spec.code_version, self.epoch
        if self.status is DeploymentStatus.HEALTHY:
            self.message = self.scaler.wrong
        else:
            self.set_status(DeploymentStatus.HEALTHY, ENDS.get(self.status, DeploymentStatusTrigger.UNSPECIFIED))


#: Why a deployment is healthy that was so before.
ENDS = {
    DeploymentStatus.UPDATING: DeploymentStatusTrigger.CONFIG_UPDATE_COMPLETED,
    DeploymentStatus.UPSCALING: DeploymentStatusTrigger.UPSCALE_COMPLETED,
    DeploymentStatus.DOWNSCALING: DeploymentStatusTrigger.DOWNSCALE_COMPLETED,
}


def are_whole(members: list[Replica]) -> bool:
    """Whether they are all of a gang, and take requests. One in no gang is whole."""
    return all(one.gang is None or (one.serves and len(members) == one.gang.world_size) for one in members)


def for_replicas(spec: DeploymentSpec) -> tuple[Any, ...]:
    """What replicas and callers have to be told when it changes."""
    config = spec.config
    return (
        config.user_config,
        config.max_ongoing_requests,
        config.graceful_shutdown_wait_loop_s,
        config.graceful_shutdown_timeout_s,
        config.logging_config,
        config.request_router_config,
    )

"""The replicas of one deployment: what is known of each, which code they run, how often they failed."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from hpc.serve.control.autoscale import Load, Scaler, bounds, capacity_of
from hpc.serve.control.rollout import ENDING, SERVING, Row, Wanted, batch_of, surge_of
from hpc.serve.messages import DeploymentID, ReplicaFacts, ReplicaID, ReplicaStats
from hpc.serve.schema import DeploymentStatus, DeploymentStatusTrigger, ReplicaState
from hpc.serve.specs import DeploymentSpec

#: Checks in a row that a replica fails before another one takes its place: Ray's number.
MISSES = 3
#: Waits between attempts to make a replica: the first is made at once, then each wait is twice the one before.
BACKOFF_S, MAX_BACKOFF_S = 0.2, 30.0
#: A replica that dies younger than this has failed as its constructor might have.
YOUNG_S = 10.0
_NO_FACTS, _NO_STATS = ReplicaFacts(0, "", ""), ReplicaStats(0)


@dataclass(slots=True)
class Replica:
    """A replica. epoch: of the configuration that it has. order: the later one began later. actor: its pickled handle.
    ended: its actor was told to end."""

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

    @property
    def serves(self) -> bool:
        """Whether it takes requests."""
        return self.state in SERVING

    @property
    def lives(self) -> bool:
        """Whether it is not about to end."""
        return self.state not in ENDING


@dataclass
class Deployment:
    """A deployment. spec: what it shall be; specs: of all versions that replicas run; good: the last version that was
    whole, with the configuration of good_epoch. target: how many replicas, before the capacity. epoch: rises with each
    configuration. failures: attempts in a row that failed, of the newest version; crashes: replicas in a row that died
    young. failed: nothing more begins.
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

    def __post_init__(self) -> None:
        self.specs.setdefault(self.spec.code_version, self.spec)

    # -------------------------------------------------------------- what there is

    @property
    def live(self) -> list[Replica]:
        """Replicas that are not about to end."""
        return [one for one in self.replicas.values() if one.lives]

    @property
    def serving(self) -> list[Replica]:
        """Replicas that take requests."""
        return [one for one in self.replicas.values() if one.serves]

    def wanted(self, share: float) -> Wanted:
        """What it shall be now."""
        config, target = self.spec.config, self.wanted_count(share)
        return Wanted(
            target,
            self.spec.code_version,
            surge_of(config.max_surge_percent, target),
            batch_of(config.rolling_update_percentage, target),
            self.failed,
            "" if self.good == self.spec.code_version and not self.is_proven else self.good,
        )

    @property
    def is_proven(self) -> bool:
        """Whether all of its replicas have served once as it shall be now: with this code and this configuration."""
        return (self.good, self.good_epoch) == (self.spec.code_version, self.epoch)

    def wanted_count(self, share: float) -> int:
        """How many replicas it shall have at this share of the capacity. The bounds of one that scales are its part."""
        if self.deleting:
            return 0
        scaling = self.spec.config.autoscaling_config
        if scaling is None:
            return capacity_of(self.target, share)
        least, most = bounds(scaling, share)
        return self.target if share >= 1 else min(max(self.target, least), most)

    def rows(self) -> list[Row]:
        """The replicas, for a plan."""
        return [
            Row(one.id.unique_id, one.version, one.state, one.facts.node, self.ongoing(one), one.order)
            for one in self.replicas.values()
        ]

    def ongoing(self, one: Replica) -> int:
        """How many requests it has, as far as anybody knows."""
        return max(self.load.ongoing(one.id.unique_id), one.stats.ongoing)

    def is_whole(self, share: float) -> bool:
        """Whether all of its replicas take requests, with the newest code and configuration, and are as many as they
        shall be."""
        live = self.live
        return len(live) == self.wanted_count(share) and all(
            one.version == self.spec.code_version
            and one.epoch == self.epoch
            and one.state in (ReplicaState.RUNNING, ReplicaState.RECOVERING)
            for one in live
        )

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

    def new_replica(self, unique: str, version: str, now: float) -> Replica:
        """A replica that begins, with the smallest rank that is free."""
        taken = {one.rank for one in self.live}
        rank = next(rank for rank in range(len(taken) + 1) if rank not in taken)
        self.made += 1
        epoch = self.epoch if version == self.spec.code_version else 0
        one = Replica(ReplicaID(unique, self.id), version, epoch, rank, self.made, began=now)
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
        self.crashes = self.crashes + 1 if now - one.began < YOUNG_S else 0
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

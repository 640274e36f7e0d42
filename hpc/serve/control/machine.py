"""The control plane of a service: told of events, it leaves commands. No clock, socket, thread or random number.

Each event ends in `_settle`, which brings every deployment that has changed one step nearer to what it shall be.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from hpc.serve.autoscaling_policy import default_autoscaling_policy
from hpc.serve.canary import AppOutcomes, Judge, Split
from hpc.serve.control.applications import Applications
from hpc.serve.control.autoscale import Policy
from hpc.serve.control.commands import (
    Adopt,
    Check,
    Command,
    Drain,
    FreeGang,
    Kill,
    Push,
    PushRoutes,
    Reconfigure,
    Start,
    gang_name,
)  # fmt: skip
from hpc.serve.control.crew import Crew, sweep_of
from hpc.serve.control.fleet import MISSES, Deployment, Replica, are_whole
from hpc.serve.control.proxies import Proxies
from hpc.serve.control.rollout import SERVING, plan
from hpc.serve.control.scaling import Scaling
from hpc.serve.control.tables import told_of
from hpc.serve.gang import GangContext
from hpc.serve.messages import DeploymentID, HandleMetrics, ReplicaFacts, ReplicaID, ReplicaStats
from hpc.serve.schema import DeploymentStatus, DeploymentStatusTrigger, ReplicaState
from hpc.serve.specs import AppSpec, DeploymentSpec

Status, Trigger = DeploymentStatus, DeploymentStatusTrigger
#: Steps of one deployment at one event: more than any plan needs.
MOST_STEPS = 100
#: How long an actor may take to end by itself after its work is over, before it is killed.
END_S = 5.0


class Machine:
    """The service. ``new_id``: a name for each replica, never given twice. ``policy_of``: a user's function by the
    configuration; ``imported``: what an import path leads to. Both are the shell's."""

    def __init__(
        self,
        new_id: Callable[[], str],
        policy_of: Callable[[DeploymentSpec], Policy] = lambda spec: default_autoscaling_policy,
        imported: Callable[[Any], Any] = lambda what: what,
    ) -> None:
        self._new_id, self.scaling = new_id, Scaling(policy_of, imported)
        self.deployments: dict[DeploymentID, Deployment] = {}
        self.apps = Applications()
        self.splits: dict[str, Split] = {}
        self.judges: dict[str, Judge] = {}
        self.proxies, self.crew = Proxies(self._say), Crew(self._say)
        self.target_capacity: float | None = None
        self.alive: set[str] = set()
        self.leaving: set[str] = set()
        self.is_ending = False
        self.now = 0.0
        self._commands: list[Command] = []
        self._dirty: dict[DeploymentID, None] = {}
        self._routes_dirty = False
        self._stop_by: dict[ReplicaID, float] = {}
        self.routes_version = 0
        #: Something has changed that has to be kept, though no command may follow from it.
        self.is_unsaved = False

    # -------------------------------------------------------------- what the shell asks

    def take(self) -> list[Command]:
        """The commands since the last time, in their order."""
        commands, self._commands = self._commands, []
        return commands

    def next_at(self) -> float | None:
        """When `tick` is due, if nothing happens before."""
        times = list(self._stop_by.values())
        for one in self.deployments.values():
            if one.retry_at > self.now:
                times.append(one.retry_at)
            if one.scaler.next_at is not None and not one.deleting:
                times.append(one.scaler.next_at)
            times += self.crew.next_at(one)
            times += [r.next_check for r in one.replicas.values() if r.serves and not r.is_asked and r.next_check]
        proxies = self.proxies.next_at()
        return min([*times, *([] if proxies is None else [proxies])], default=None)

    @property
    def share(self) -> float:
        """The target capacity, of 1."""
        return 1.0 if self.target_capacity is None else self.target_capacity / 100

    @property
    def is_over(self) -> bool:
        """Whether the service has ended: nothing is left of it."""
        return self.is_ending and not self.deployments and not self.proxies.table

    # -------------------------------------------------------------- what users want

    def deploy(self, specs: Iterable[AppSpec], now: float, only: bool = False) -> None:
        """Applications shall be so. ``only``: all others that files have deployed are deleted.

        Raises RayServeException where two applications would have the same route."""
        self.now = now
        specs = list(specs)
        self.apps.check_routes(specs, only)
        self.is_ending = False
        for spec in specs:
            self._deploy_app(spec)
        if only:
            self._delete(self.apps.left_out({spec.name for spec in specs}))
        self._routes_dirty = True
        self._settle()

    def _deploy_app(self, spec: AppSpec) -> None:
        before = self.apps.table.get(spec.name)
        self.apps.put(spec, self.now)
        names = {one.name for one in spec.deployments}
        if before is not None:
            for name in [one.name for one in before.spec.deployments if one.name not in names]:
                self._delete_deployment(DeploymentID(name, spec.name))
        for one in spec.deployments:
            self._deploy_deployment(DeploymentID(one.name, spec.name), one)

    def _deploy_deployment(self, ident: DeploymentID, spec: DeploymentSpec) -> None:
        one = self.deployments.get(ident)
        if one is None:
            one = self.deployments[ident] = Deployment(ident, spec, spec.config.first_replicas)
        elif one.deleting:
            one.deleting = False
            one.target = spec.config.first_replicas
            one.new_spec(spec)
        else:
            one.update(spec)
        one.scaler.look_again(self.now)
        self._dirty[ident] = None

    def delete(self, names: Iterable[str], now: float) -> None:
        """Applications shall end: those that are there."""
        self.now = now
        self._delete([name for name in names if name in self.apps.table])
        self._settle()

    def _delete(self, names: Iterable[str]) -> None:
        for name in names:
            app = self.apps.table[name]
            app.deleting = True
            self.splits.pop(name, None)
            for split in self.splits.values():
                split.forget(name)
            for one in [*self.deployments.values()]:
                if one.id.app_name == name:
                    self._delete_deployment(one.id)
            self._routes_dirty = True

    def _delete_deployment(self, ident: DeploymentID) -> None:
        one = self.deployments.get(ident)
        if one is not None and not one.deleting:
            one.deleting = True
            one.set_status(Status.UPDATING, Trigger.DELETING)
            self._dirty[ident] = None

    def shutdown(self, now: float) -> None:
        """All shall end."""
        self.now = now
        self.is_ending = True
        self._delete(list(self.apps.table))
        self._settle()

    def scale(self, app: str, deployment: str, count: int, now: float) -> None:
        """Somebody outside decides how many replicas there are. Raises ValueError unless the application allows it."""
        self.now = now
        one = self.deployments.get(DeploymentID(deployment, app))
        if one is None:
            raise ValueError(f"there is no deployment {deployment!r} in application {app!r}")
        if not self.apps.table[app].spec.external_scaler_enabled:
            raise ValueError(f"application {app!r} was deployed without external_scaler_enabled=True")
        size = one.spec.config.gang_size
        if count % size:
            raise ValueError(f"{count} replicas of {deployment!r} are no whole gangs: it has gangs of {size}")
        self._retarget(one, count, Trigger.CONFIG_UPDATE_STARTED)
        self._settle()

    def set_capacity(self, percent: float | None, now: float) -> None:
        """All deployments shall have this share of their replicas, in percent; None: all of them."""
        self.now = now
        if percent != self.target_capacity:
            self.target_capacity, self.is_unsaved = percent, True
            for one in self.deployments.values():
                self._dirty[one.id] = None
                if not one.deleting and not one.failed:
                    one.set_status(Status.UPDATING, Trigger.CONFIG_UPDATE_STARTED)
        self._settle()

    # -------------------------------------------------------------- canaries

    def split(self, app: str, split: Split | None, now: float) -> None:
        """The requests of an application's route are divided so; None: they are not, any more."""
        self.now = now
        self.apps.check_split(app, split)
        if split is None:
            self.splits.pop(app, None)
        else:
            self.splits[app] = split
        self.judges.pop(app, None)
        self._routes_dirty = True
        self._settle()

    def promote(self, app: str, to: str, now: float) -> None:
        """The route of an application is another one's from now on."""
        self.now = now
        self.apps.promote(app, to)
        self.splits.pop(app, None)
        self._routes_dirty = True
        self._settle()

    def outcomes(self, rows: Iterable[AppOutcomes], now: float) -> None:
        """A proxy tells how requests went."""
        self.now = now
        for row in rows:
            for app, split in self.splits.items():
                if row.app not in split.weights:
                    continue
                judge = self.judges.setdefault(app, Judge())
                judge.note(row, now)
                verdict = judge.verdict(split, now)
                if verdict is not None:
                    split.without(*verdict)
                    self._routes_dirty = True
        self._settle()

    # -------------------------------------------------------------- what replicas do

    def replica_begun(self, ident: ReplicaID, facts: ReplicaFacts, actor: bytes, now: float) -> None:
        """A replica takes requests from now on, or was adopted. ``actor``: its pickled handle."""
        self.now = now
        found = self._find(ident)
        if found is None or not found[1].lives:
            self._settle()
            return
        one, replica = found
        is_new = replica.state is ReplicaState.STARTING
        replica.facts, replica.actor, replica.misses = facts, actor, 0
        replica.is_asked, replica.next_check = False, now + one.jitter(replica)
        if is_new:
            one.retry_at = 0.0
            one.failures = 0 if replica.version == one.spec.code_version else one.failures
        replica.state = one.running_state(replica, self.leaving)
        self._changed(one)

    def replica_failed(self, ident: ReplicaID, why: str, now: float) -> None:
        """A replica could not begin, or did not take its configuration."""
        self.now = now
        found = self._find(ident)
        if found is None:
            return
        one, replica = found
        if replica.lives:
            self._count_failure(one, replica, why)
            self._stop_unit(one, replica.unit, gently=False)
        self._changed(one)

    def _count_failure(self, one: Deployment, failed: Replica, why: str) -> None:
        if failed.version != one.spec.code_version:
            one.crashes += 1
            one.wait(one.crashes, self.now)
            return
        one.failures += 1
        one.message = why
        one.wait(one.failures, self.now)
        is_alone = all(replica.version == one.spec.code_version for replica in one.live)
        if one.failures < one.most_failures or (is_alone and one.is_proven):
            return
        one.failed = True
        one.set_status(
            Status.DEPLOY_FAILED,
            Trigger.REPLICA_STARTUP_FAILED,
            f"The deployment failed to start {one.failures} times in a row: its constructor, reconfigure or first "
            f"check fails. It is not tried again until it is deployed anew. The last error:\n{why}",
        )

    def replica_dead(self, ident: ReplicaID, why: str, now: float, is_missing: bool = False) -> None:
        """The actor of a replica has ended. ``is_missing``: nobody knows whether it was ever made."""
        self.now = now
        found = self._find(ident)
        if found is None:
            return
        one, replica = found
        was = replica.state
        del one.replicas[ident.unique_id]
        self._stop_by.pop(ident, None)
        self._stop_unit(one, replica.unit, gently=False)
        if replica.gang is not None and not one.members(replica.unit):
            self._say(FreeGang(replica.gang.pg_name))
        if was is ReplicaState.STARTING:
            if not is_missing:
                self._count_failure(one, replica, why)
        elif replica.lives:
            one.note_end(replica, now)
            if not one.deleting and one.status not in (Status.DEPLOY_FAILED, Status.UPDATING):
                one.set_status(Status.UNHEALTHY, Trigger.HEALTH_CHECK_FAILED, f"a replica has ended: {why}")
        self._changed(one)

    def checked(self, ident: ReplicaID, is_well: bool, why: str, stats: ReplicaStats | None, now: float) -> None:
        """A replica has answered whether it is well, or has not in time."""
        self.now = now
        found = self._find(ident)
        if found is None:
            return
        one, replica = found
        replica.is_asked, replica.next_check = False, now + one.jitter(replica)
        replica.misses = 0 if is_well else replica.misses + 1
        if stats is not None and (stats.model_ids != replica.stats.model_ids or stats.routing != replica.stats.routing):
            one.told = ()
        replica.stats = stats or replica.stats
        if replica.misses >= MISSES and replica.lives:
            if not one.deleting and not one.failed:
                one.set_status(Status.UNHEALTHY, Trigger.HEALTH_CHECK_FAILED, f"{replica.id} is not well: {why}")
            self._stop_unit(one, replica.unit, gently=True)
        self._changed(one)

    def reconfigured(self, ident: ReplicaID, why: str, now: float) -> None:
        """A replica has taken its configuration; ``why`` it has not."""
        found = self._find(ident)
        if why or found is None:
            self.replica_failed(ident, why, now)
            return
        self.now = now
        one, replica = found
        replica.epoch = replica.asked_epoch
        if replica.state is ReplicaState.UPDATING:
            replica.state = one.running_state(replica, self.leaving)
        self._changed(one)

    # -------------------------------------------------------------- what actors do that replicas share

    def helper_begun(self, ident: DeploymentID, version: str, name: str, why: str, now: float) -> None:
        """An actor that replicas share is there; ``why`` it is not."""
        self.now = now
        one = self.deployments.get(ident)
        if one is not None:
            self.crew.begun(one, version, name, why, now)
            self._changed(one)

    def helper_checked(self, ident: DeploymentID, version: str, name: str, is_well: bool, now: float) -> None:
        """Such an actor has answered that it takes calls, or has not in time."""
        self.now = now
        one = self.deployments.get(ident)
        if one is not None and self.crew.checked(one, version, name, is_well, now):
            self._changed(one)

    def actors_seen(self, names: Collection[str], now: float) -> None:
        """These named actors are there."""
        self.now = now
        self._dirty |= dict.fromkeys(one.id for one in self.deployments.values() if self.crew.lost(one, names, now))
        self._settle()

    def drained(self, ident: ReplicaID, now: float) -> None:
        """Nothing runs in a replica any more, or its time is over."""
        self.now = now
        found = self._find(ident)
        if found is not None and not found[1].ended:
            self._end(found[1])
        self._settle()

    def note_handle(self, metrics: HandleMetrics, now: float) -> None:
        """A caller tells how many requests it has."""
        self.now = now
        one = self.deployments.get(DeploymentID(metrics.deployment, metrics.app))
        if one is None:
            return
        one.load.note(metrics, now)
        if one.spec.config.autoscaling_config is not None:
            self._scale(one)
        self._settle()

    # -------------------------------------------------------------- nodes and time

    def nodes(self, alive: Iterable[str], leaving: Iterable[str], head: str, now: float) -> None:
        """These nodes are there; from the leaving ones replicas move away."""
        self.now = now
        self.alive, self.leaving, self.proxies.head = set(alive), set(leaving), head
        for one in self.deployments.values():
            for replica in one.replicas.values():
                state = one.running_state(replica, self.leaving)
                if (
                    replica.state in (ReplicaState.RUNNING, ReplicaState.PENDING_MIGRATION)
                    and replica.state is not state
                ):
                    replica.state = state
                    self._dirty[one.id] = None
        self._settle()

    def tick(self, now: float) -> None:
        """Time has gone on."""
        self.now = now
        for one in list(self.deployments.values()):
            if one.scaler.next_at is not None and now >= one.scaler.next_at:
                self._scale(one)
            if one.retry_at and now >= one.retry_at:
                one.retry_at = 0.0
                self._dirty[one.id] = None
            for replica in one.replicas.values():
                self._look_at(one, replica)
            self.crew.tick(one, now)
        self.proxies.tick(now)
        self._settle()

    def _look_at(self, one: Deployment, replica: Replica) -> None:
        if replica.serves and replica.next_check and not replica.is_asked and self.now >= replica.next_check:
            replica.is_asked = True
            self._say(Check(replica.id, one.spec.config.health_check_timeout_s))
        by = self._stop_by.get(replica.id)
        if by is not None and self.now >= by:
            if replica.ended:
                self._stop_by[replica.id] = self.now + END_S
                self._say(Kill(replica.id, False))
            else:
                self._end(replica)

    # -------------------------------------------------------------- inside

    def _next_version(self, version: int) -> int:
        """The version of a table: higher than that of each one before, of a deployment that was deleted too."""
        return max(version + 1, int(self.now * 1000))

    def _say(self, command: Command) -> None:
        self._commands.append(command)

    def _find(self, ident: ReplicaID) -> tuple[Deployment, Replica] | None:
        one = self.deployments.get(ident.deployment_id)
        replica = one.replicas.get(ident.unique_id) if one is not None else None
        return None if one is None or replica is None else (one, replica)

    def _changed(self, one: Deployment) -> None:
        self._dirty[one.id] = None
        self._settle()

    def _scale(self, one: Deployment) -> None:
        app = self.apps.table.get(one.id.app_name)
        for each, count in self.scaling.decide(one, app, self.deployments.values(), self.share, self.now):
            self._retarget(each, count, Trigger.AUTOSCALING)

    def _retarget(self, one: Deployment, count: int, trigger: DeploymentStatusTrigger) -> None:
        if count == one.target or one.deleting:
            return
        status = Status.UPSCALING if count > one.target else Status.DOWNSCALING
        one.target, self.is_unsaved = count, True
        if one.status not in (Status.UPDATING, Status.DEPLOY_FAILED, Status.UNHEALTHY):
            one.set_status(status, trigger)
        self._dirty[one.id] = None

    def _settle(self) -> None:
        """Bring all that has changed one step nearer to what it shall be."""
        while self._dirty:
            ident = next(iter(self._dirty))
            del self._dirty[ident]
            one = self.deployments.get(ident)
            if one is not None:
                self._settle_one(one)
        if self._routes_dirty:
            self._routes_dirty = False
            self.routes_version = self._next_version(self.routes_version)
            self._say(PushRoutes())
        self.apps.settle(self.deployments.values())
        self.scaling.keep(self.apps.table)
        if self.is_ending and not self.deployments:
            self.proxies.end()
        elif not self.is_ending:
            busy = {replica.facts.node for one in self.deployments.values() for replica in one.serving}
            self.proxies.settle(busy - {""}, self.alive, self.now)

    def _settle_one(self, one: Deployment) -> None:
        for _ in range(MOST_STEPS):
            step = plan(one.wanted(self.share), one.rows())
            for unit in step.stop:
                self._stop_unit(one, unit, gently=True)
            if not self._start_some(one, step.start) and not step.stop:
                break
        self._reconfigure(one)
        self._set_status(one)
        used = {replica.version for replica in one.replicas.values()} | {one.spec.code_version, one.good}
        one.specs = {version: spec for version, spec in one.specs.items() if version in used}
        self.crew.settle(one, self.now)
        told = told_of(one)
        if told != one.told:
            one.told = told
            one.table_version = self._next_version(one.table_version)
            self._say(Push(one.id))
        if one.deleting and not one.replicas:
            del self.deployments[one.id]

    def _start_some(self, one: Deployment, counts: Mapping[str, int]) -> bool:
        """Whether any replica begins: not while an attempt that failed has to be waited for, nor before the actors that
        it shares with others."""
        if one.retry_at > self.now:
            return False
        started = False
        for version, count in counts.items():
            if count and not self.crew.ready(one, version, self.now):
                continue
            for _ in range(count):
                if not one.is_placing:
                    self._start(one, version)
                    started = True
        return started

    def _start(self, one: Deployment, version: str) -> None:
        """A replica begins, or a gang of them."""
        spec = one.specs[version]
        app, count, size = self.apps.table[one.id.app_name], one.wanted_count(self.share), spec.config.gang_size
        idents = [self._new_id() for _ in range(size)]
        gang = None if spec.config.gang_scheduling_config is None else self._new_id()
        for rank, ident in enumerate(idents):
            known = None if gang is None else GangContext(gang, rank, size, idents, gang_name(one.id, gang))
            replica = one.new_replica(ident, version, self.now, known)
            self._say(Start(replica.id, spec, app.facts, replica.rank, count, one.full_nodes(), known))

    def _stop_unit(self, one: Deployment, unit: str, gently: bool) -> None:
        """A replica ends, or a gang as a whole: what one has that is not whole is no use to anybody."""
        members = one.members(unit)
        gently = gently and are_whole(members)
        for each in members:
            if each.lives:
                self._stop(one, each, gently)

    def _stop(self, one: Deployment, replica: Replica, gently: bool) -> None:
        """A replica takes nothing any more. Its work comes to an end first if it serves, and is to end gently."""
        was, replica.state = replica.state, ReplicaState.STOPPING
        self._dirty[one.id] = None
        config = one.specs.get(replica.version, one.spec).config
        if gently and was in SERVING:
            timeout = config.graceful_shutdown_timeout_s
            self._say(Drain(replica.id, config.graceful_shutdown_wait_loop_s, timeout))
            self._stop_by[replica.id] = self.now + timeout + END_S
        else:
            self._end(replica, gently=False)

    def _end(self, replica: Replica, gently: bool = True) -> None:
        replica.ended = True
        self._stop_by[replica.id] = self.now + END_S
        self._say(Kill(replica.id, gently))

    def _reconfigure(self, one: Deployment) -> None:
        """Give the newest configuration to some of those that have an older one, and ranks that are free."""
        if one.deleting or one.failed:
            return
        wanted = one.wanted(self.share)
        busy = sum(replica.state is ReplicaState.UPDATING for replica in one.live)
        if one.failures:  # a configuration that fails is not tried at all of them
            busy += max(wanted.target - len(one.serving), 0)
        for replica in one.live:
            is_old = replica.version == one.spec.code_version and replica.epoch != one.epoch
            if is_old and replica.state is ReplicaState.RUNNING and busy < wanted.batch:
                busy += 1
                self._give(one, replica, replica.rank, wanted.target)
        if one.is_whole(self.share):
            for replica, rank in one.misplaced():
                replica.rank = rank
                self._give(one, replica, rank, wanted.target)

    def _give(self, one: Deployment, replica: Replica, rank: int, world_size: int) -> None:
        replica.state, replica.asked_epoch = ReplicaState.UPDATING, one.epoch
        self._say(Reconfigure(replica.id, one.spec.config, rank, world_size))

    def _set_status(self, one: Deployment) -> None:
        if not one.deleting and not one.failed and one.is_whole(self.share):
            one.become_healthy()

    # -------------------------------------------------------------- a controller that comes after another one

    def adopt(self, now: float) -> None:
        """This is the state that another controller has left: find what lives of it, and go on."""
        self.now = now
        for one in self.deployments.values():
            for replica in one.replicas.values():
                if replica.lives:
                    replica.is_asked = False
                    if replica.state is not ReplicaState.STARTING:  # one that had not begun serves nothing yet
                        replica.state = ReplicaState.RECOVERING
                    spec = one.specs.get(replica.version, one.spec)
                    self._say(Adopt(replica.id, spec, replica.rank, one.wanted_count(self.share)))
                elif replica.ended:
                    self._end(replica)
                else:
                    config = one.spec.config
                    wait_loop, timeout = config.graceful_shutdown_wait_loop_s, config.graceful_shutdown_timeout_s
                    self._say(Drain(replica.id, wait_loop, timeout))
                    self._stop_by[replica.id] = now + timeout + END_S
            self.crew.again(one)
            one.scaler.look_again(now, is_deaf=True)
            self._dirty[one.id] = None
        self._say(sweep_of(self.deployments.values()))
        self.proxies.adopt()
        self._routes_dirty = True
        self._settle()

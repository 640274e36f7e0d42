"""The control plane and the routers of callers under virtual time. A seed repeats exactly.

Deployments change, versions fail to begin, replicas die or are ill. Controllers die between what they keep and what
they do. Nodes are about to be taken away, callers send requests. `world_checks` says what holds.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from hpc.serve.calls.router import Request, RouterMachine
from hpc.serve.canary import AppOutcomes, Split
from hpc.serve.config import AutoscalingConfig, AutoscalingPolicy, DeploymentConfig, GangSchedulingConfig
from hpc.serve.control import commands as say
from hpc.serve.control.machine import Machine
from hpc.serve.control.state import Writer, restore
from hpc.serve.control.tables import routes_of, table_of
from hpc.serve.control.world_checks import check_end, check_step
from hpc.serve.messages import (
    DeploymentID,
    DeploymentTable,
    HandleMetrics,
    ReplicaFacts,
    ReplicaID,
    ReplicaStats,
    helper_name,
)
from hpc.serve.specs import AppSpec, DeploymentSpec, HelperSpec

#: The time of trouble, then that of quiet, in which all must become whole.
TROUBLE_S, QUIET_S = 120.0, 300.0
#: Of so many states one is written that no other controller reads: that takes half of the time.
KEPT_EACH = 20
BEGAN_S = 1_700_000_000.0
NODES = ("1", "2", "3")


@dataclass
class Actor:
    """A replica in the world."""

    id: ReplicaID
    version: str
    node: str
    limit: int
    begins_at: float
    fails: bool
    begun: bool = False
    draining: bool = False
    sick: bool = False
    running: set[int] = field(default_factory=set)
    mates: frozenset[str] = frozenset()
    drain_by: float | None = None


@dataclass
class Caller:
    """A process with handles: its router of each deployment."""

    number: int
    routers: dict[DeploymentID, RouterMachine] = field(default_factory=dict)


class Call(Request):
    """A request in the world."""

    __slots__ = ("caller", "deployment", "ident", "outcome")

    def __init__(self, ident: int, caller: int, deployment: DeploymentID) -> None:
        super().__init__()
        self.ident, self.caller, self.deployment = ident, caller, deployment
        self.outcome = ""


class World:
    """One run."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = BEGAN_S
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._ids = 0
        self.actors: dict[ReplicaID, Actor] = {}
        self.calls: dict[int, Call] = {}
        self.callers = [Caller(number) for number in range(self.random.randint(1, 3))]
        self.tables: dict[DeploymentID, DeploymentTable] = {}
        self.bad_versions: set[str] = set()
        self._sizes: dict[str, int] = {}
        self._sharing: dict[str, int] = {}
        self.unwell: set[str] = set()
        self.drained: set[ReplicaID] = set()
        self.groups: set[str] = set()
        #: The actors that replicas share, by their names: whether each has begun.
        self.helpers: dict[str, bool] = {}
        self.began: set[str] = set()
        self.hanging: set[str] = set()
        self.kept = b""
        self.blobs: dict[str, bytes] = {}
        self.epoch = 0
        self.is_adopting = False
        self.deaths = self.crashes = self.answered = self.broken = self.started = 0
        self.quiet = self.moves = False
        #: When each router is to look again.
        self._wakes: dict[int, float] = {}
        self._versions = self._steps = 0
        self.writer = Writer()
        self.machine = self._new_machine()
        self.machine.nodes(NODES, (), "1", self.now)

    def _new_machine(self) -> Machine:
        def new_id() -> str:
            self._ids += 1
            return f"r{self._ids}"

        return Machine(new_id, imported=lambda what: self._together)

    def _together(self, contexts: dict[DeploymentID, Any]) -> Any:
        """The policy of an application: its deployments are alike."""
        assert len({ident.app_name for ident in contexts}) == 1, "a policy is told of several applications"
        if self.random.random() < 0.05 and not self.quiet:
            raise RuntimeError("the policy fails")
        need = math.ceil(max(ctx.total_num_requests for ctx in contexts.values()) / 2)
        return dict.fromkeys(contexts, need), {ident: {"seen": ctx.current_time} for ident, ctx in contexts.items()}

    # -------------------------------------------------------------- time

    def at(self, delay_s: float, what: Callable[[], None]) -> None:
        """Do something later."""
        self._count += 1
        heapq.heappush(self._events, (self.now + delay_s, self._count, what))

    def later(self, most_s: float, what: Callable[[], None]) -> None:
        """Do something at any time until then."""
        self.at(self.random.random() * most_s, what)

    def told(self, what: Callable[[Machine], None]) -> Callable[[], None]:
        """Something that the controller of now hears, if it lives then."""
        epoch = self.epoch

        def hear() -> None:
            if epoch == self.epoch:
                what(self.machine)
                self.follow()

        return hear

    def run(self) -> None:
        """Trouble, then quiet, then the end. Raises AssertionError."""
        self._first()
        self._until(BEGAN_S + TROUBLE_S)
        self.quiet = True
        self.bad_versions.clear()
        for actor in self.actors.values():
            actor.sick = False
        self._told_nodes(())
        self._until(BEGAN_S + TROUBLE_S + QUIET_S)
        seen = self.answered
        if any(not call.outcome for call in self.calls.values()):
            self._until(self.now + QUIET_S)
        #: One slow replica for many callers: the queue becomes shorter, and is not empty yet.
        self.moves = self.answered > seen
        check_end(self)
        self.machine.shutdown(self.now)
        self.follow()
        self._until(self.now + 100.0)
        assert self.machine.is_over, f"the service does not end: {self.machine.deployments}"
        assert not self.actors, f"replicas are left: {sorted(str(ident) for ident in self.actors)}"
        assert not self.groups and not self.helpers, f"left are {sorted(self.groups)}, {sorted(self.helpers)}"

    def _until(self, end: float) -> None:
        while True:
            due = self.machine.next_at()
            at = self._events[0][0] if self._events else end
            if due is not None and due < at:
                at = max(due, self.now)
            if at >= end:
                self.now = end
                return
            self.now = at
            if due is not None and due <= at:
                self.machine.tick(self.now)
                self.follow()
            while self._events and self._events[0][0] <= self.now:
                heapq.heappop(self._events)[2]()

    # -------------------------------------------------------------- what the controller does

    def follow(self) -> None:
        """Keep the state, then do what the machine says; a controller may die in between."""
        while True:
            said = self.machine.take()
            if not said:
                return
            check_step(self, said)
            crashes = not self.quiet and self.random.random() < 0.01
            self._steps += 1
            if crashes or self._steps % KEPT_EACH == 0:  # nobody reads it otherwise
                self.kept = self.writer.state_of(self.machine)
                self.blobs = dict(self.writer.blobs)
            if crashes:
                self.crash()
                return
            for command in said:
                self._do(command)

    def crash(self) -> None:
        """The controller dies; another one begins with what was kept."""
        self.crashes += 1
        self.epoch += 1
        self.machine = self._new_machine()
        self.is_adopting = True

        def adopt(machine: Machine) -> None:
            self.is_adopting = False
            restore(machine, self.kept, self.blobs.__getitem__)
            machine.nodes(NODES, (), "1", self.now)
            machine.adopt(self.now)

        self.at(self.random.random(), self.told(adopt))

    def _do(self, command: Any) -> None:
        ident: Any = getattr(command, "replica", None)
        if isinstance(command, say.Start):
            self._start(command)
        elif isinstance(command, say.FreeGang):
            self.groups.discard(command.name)
        elif isinstance(command, say.StartHelper):
            self._start_helper(command)
        elif isinstance(command, say.KillHelper):
            name = helper_name(command.deployment, command.version, command.name)
            self.helpers.pop(name, None)
            self.hanging.discard(name)
        elif isinstance(command, say.CheckHelper):
            self._check_helper(command)
        elif isinstance(command, say.Sweep):
            self.groups &= set(command.groups)
            self.helpers = {name: begun for name, begun in self.helpers.items() if name in command.helpers}
        elif isinstance(command, say.Adopt):
            self._adopt(command.replica)
        elif isinstance(command, say.Push):
            self._push(command.deployment)
        elif isinstance(command, say.PushRoutes):
            machine = self.machine
            routes_of(machine.routes_version, machine.apps.table, machine.deployments, machine.splits, None)
        elif isinstance(command, say.Kill):
            self.later(0.05, lambda: self.die(ident, "it was ended"))
        elif isinstance(command, say.Drain):
            self.later(0.01, lambda: self._drain(command))
        elif isinstance(command, say.Check):
            self.later(0.2, lambda: self._check(command))
        elif isinstance(command, say.Reconfigure):
            fails = self.random.random() < 0.02 and not self.quiet
            self.later(0.5, self.told(lambda machine: machine.reconfigured(ident, "no" if fails else "", self.now)))

    def _start(self, command: say.Start) -> None:
        assert command.replica not in self.actors, f"{command.replica} begins twice"
        self.started += 1
        for helper in command.spec.helpers:
            name = helper_name(command.replica.deployment_id, command.spec.code_version, helper.name)
            assert name in self.began, f"{command.replica} begins before {name}"
        if command.gang is not None:
            assert command.gang.member_replica_ids[command.gang.rank] == command.replica.unique_id
            self.groups.add(command.gang.pg_name)
        begins_s = self.random.choice((0.05, 1.0, 5.0)) * self.random.random()
        version = command.spec.code_version
        fails = version in self.bad_versions or (not self.quiet and self.random.random() < 0.03)
        limit = command.spec.config.max_ongoing_requests
        actor = Actor(command.replica, version, self.random.choice(NODES), limit, self.now + begins_s, fails)
        actor.mates = frozenset(
            (command.replica.unique_id,) if command.gang is None else command.gang.member_replica_ids
        )
        self.actors[command.replica] = actor
        self.at(begins_s, lambda: self._begun(actor))
        if not self.quiet and self.random.random() < 0.1:
            self.later(60.0, lambda: self.die(actor.id, "it was killed"))

    def _start_helper(self, command: say.StartHelper) -> None:
        name = helper_name(command.deployment, command.version, command.helper.name)
        ident, version, own = command.deployment, command.version, command.helper.name
        fails = not self.quiet and self.random.random() < 0.1
        if name not in self.helpers:
            self.helpers[name] = False
            self.hanging.discard(name)

        def begun() -> None:
            hangs = name in self.hanging and command.found_s is not None
            why = "it fails" if fails or hangs else "" if name in self.helpers else "it has died"
            if not why:
                self.helpers[name] = True
                self.began.add(name)
            self.told(lambda machine: machine.helper_begun(ident, version, own, why, self.now))()

        self.later(1.0, self.told(lambda machine: begun()))
        if not self.quiet and self.random.random() < 0.2:
            self.later(60.0, lambda: self._end_helper(name))

    def _check_helper(self, command: say.CheckHelper) -> None:
        """One hangs now and then, until it is ended."""
        name = helper_name(command.deployment, command.version, command.name)
        if not self.quiet and name in self.helpers and self.random.random() < 0.02:
            self.hanging.add(name)
        is_well, about = name not in self.hanging, (command.deployment, command.version, command.name)
        self.later(0.2, self.told(lambda machine: machine.helper_checked(*about, is_well, self.now)))

    def _end_helper(self, name: str) -> None:
        self.helpers.pop(name, None)

    def _see(self) -> None:
        self.at(1.0, self._see)
        if not self.is_adopting:
            self.machine.actors_seen(set(self.helpers), self.now)
            self.follow()

    def _begun(self, actor: Actor) -> None:
        if actor.id not in self.actors:
            return
        actor.begun = True
        self._say_begun(actor)

    def _say_begun(self, actor: Actor) -> None:
        if actor.fails:
            self.told(lambda machine: machine.replica_failed(actor.id, "its constructor fails", self.now))()
        else:
            facts = ReplicaFacts(1, actor.node, "")
            self.told(lambda machine: machine.replica_begun(actor.id, facts, b"handle", self.now))()

    def _adopt(self, ident: ReplicaID) -> None:
        actor = self.actors.get(ident)
        if actor is None:
            self.at(0.01, self.told(lambda machine: machine.replica_dead(ident, "there is none", self.now, True)))
        elif actor.begun:
            epoch = self.epoch
            self.later(0.1, lambda: self._say_begun(actor) if epoch == self.epoch and ident in self.actors else None)

    def die(self, ident: Any, why: str) -> None:
        """A replica ends. Its requests end with it."""
        actor = self.actors.pop(ident, None)
        if actor is not None:
            self.deaths += 1
            for number in sorted(actor.running):
                self._break(self.calls[number])
            for caller in self.callers:
                router = caller.routers.get(ident.deployment_id)
                if router is not None:
                    router.lost(ident.unique_id)
        self.later(0.1, self.told(lambda machine: machine.replica_dead(ident, why, self.now)))

    def _drain(self, command: say.Drain) -> None:
        actor = self.actors.get(command.replica)
        if actor is None:
            self.told(lambda machine: machine.replica_dead(command.replica, "there is none", self.now))()
            return
        actor.draining = True
        epoch, ident = self.epoch, command.replica

        def over() -> None:
            if epoch == self.epoch and ident in self.actors:
                self.told(lambda machine: machine.drained(ident, self.now))()

        def look() -> None:
            if not actor.running:
                over()
            elif ident in self.actors:
                self.at(0.1, look)

        look()
        self.at(command.timeout_s, over)

    def _check(self, command: say.Check) -> None:
        actor = self.actors.get(command.replica)
        if actor is None:
            return
        if not self.quiet and self.random.random() < 0.01:
            actor.sick = True
        if actor.sick:
            self.unwell |= actor.mates
        stats = ReplicaStats(len(actor.running))
        self.told(lambda machine: machine.checked(actor.id, not actor.sick, "it is ill", stats, self.now))()

    def _push(self, ident: DeploymentID) -> None:
        one = self.machine.deployments.get(ident)
        if one is None:
            self.tables.pop(ident, None)
            return
        table = self.tables[ident] = table_of(one)
        for caller in self.callers:
            self.later(0.02, lambda caller=caller: self._update(caller, ident, table))  # type: ignore[misc]

    def _update(self, caller: Caller, ident: DeploymentID, table: DeploymentTable) -> None:
        router = caller.routers.setdefault(ident, RouterMachine(self.random))
        self._send(router.update(table, self.now))

    # -------------------------------------------------------------- users

    def _first(self) -> None:
        self._see()
        for number in range(self.random.randint(1, 2)):
            self._deploy(f"app{number}")
        for _ in range(self.random.randint(3, 10)):
            self.later(TROUBLE_S, self._change)
        for caller in self.callers:
            self.later(1.0, lambda caller=caller: self._call(caller))  # type: ignore[misc]
            self.later(1.0, lambda caller=caller: self._tell(caller))  # type: ignore[misc]

    def _spec(self, version: str, config: DeploymentConfig) -> DeploymentSpec:
        helpers = [HelperSpec("shared", b"")] if config.user_config == 3 else []
        return DeploymentSpec("d", b"", b"", config, version, helpers=helpers)

    def _config(self, version: str) -> DeploymentConfig:
        chance = self.random
        scaled = chance.random() < 0.4
        size = self._sizes.setdefault(version, chance.choice((1, 1, 1, 2, 3)))
        scaling = AutoscalingConfig(
            min_replicas=chance.choice((0, 1, 2)) * size,
            max_replicas=chance.randint(2, 6) * size,
            target_ongoing_requests=chance.choice((1, 2)),
            upscale_delay_s=chance.choice((0, 1, 5)),
            downscale_delay_s=chance.choice((0, 2, 10)),
            look_back_period_s=chance.choice((0.5, 5)),
            metrics_interval_s=0.5,
        )
        return DeploymentConfig(
            num_replicas=chance.randint(1, 6) * size,
            gang_scheduling_config=None if size == 1 else GangSchedulingConfig(gang_size=size),
            autoscaling_config=scaling if scaled else None,
            max_surge_percent=chance.choice((0, 0, 25, 100)),
            rolling_update_percentage=chance.choice((0.2, 0.5, 1.0)),
            max_ongoing_requests=chance.randint(1, 5),
            user_config=self._sharing.setdefault(version, chance.choice((0, 0, 3))) or chance.randint(0, 2),
            health_check_period_s=chance.choice((1, 10)),
            graceful_shutdown_timeout_s=chance.choice((1, 20)),
            max_constructor_retry_count=chance.choice((2, 20)),
        )

    def _deploy(self, name: str) -> None:
        before = self.machine.deployments.get(DeploymentID("d", name))
        version = before.spec.code_version if before is not None else ""
        if not version or self.random.random() < 0.5:
            self._versions += 1
            version = f"v{self._versions}"
            if self.random.random() < 0.25:
                self.bad_versions.add(version)
        specs = [self._spec(version, self._config(version))]
        policy = None
        if self.random.random() < 0.3:
            policy = AutoscalingPolicy(policy_function="together")
            specs.append(replace(self._spec(version, self._config(version)), name="e"))
        spec = AppSpec(name, f"/{name}", "d", specs, autoscaling_policy=policy)
        self.machine.deploy([spec], self.now)
        self.follow()

    def _change(self) -> None:
        if self.is_adopting:
            self.at(1.0, self._change)
            return
        name = f"app{self.random.randint(0, 1)}"
        draw = self.random.random()
        if draw < 0.5:
            self._deploy(name)
        elif draw < 0.6:
            self.machine.delete([name], self.now)
        elif draw < 0.7:
            self.machine.set_capacity(self.random.choice((None, 50.0, 100.0)), self.now)
        elif draw < 0.8:
            self._told_nodes(self.random.sample(NODES, 1))
        elif draw < 0.9 and self.actors:
            self.die(self.random.choice(sorted(self.actors, key=str)), "it was killed")
        elif {"app0", "app1"} <= set(self.machine.apps.table):
            self._split()
        self.follow()

    def _split(self) -> None:
        table = self.machine.apps.table
        if any(app.deleting or app.spec.route_prefix is None for app in table.values()):
            return
        self.machine.split("app0", Split(weights={"app0": 9, "app1": 1}, max_error_rate=0.5), self.now)
        self.machine.outcomes([AppOutcomes("app1", 30, 20, [30] + [0] * 18)], self.now)
        assert self.machine.splits["app0"].rows == [("app0", 10.0)], "a bad canary has its weight"

    def _told_nodes(self, leaving: Any) -> None:
        if not self.is_adopting:
            self.machine.nodes(NODES, leaving, "1", self.now)
            self.follow()

    def _call(self, caller: Caller) -> None:
        if not self.quiet:
            self.later(1.0, lambda: self._call(caller))
        known = sorted(caller.routers, key=str)
        if not known:
            return
        ident = self.random.choice(known)
        call = Call(len(self.calls), caller.number, ident)
        self.calls[call.ident] = call
        router = caller.routers[ident]
        seat = router.offer(call, self.now)
        if seat is not None:
            self._send([(call, seat)])

    def _send(self, assigned: Any) -> None:
        for call, seat in assigned:
            self.later(0.01, partial(self._arrive, call, seat))

    def _arrive(self, call: Call, seat: Any) -> None:
        router = self.callers[call.caller].routers[call.deployment]
        actor = self.actors.get(ReplicaID(seat.id, call.deployment))
        if actor is None:
            self._send(router.again(call, self.now))
        elif actor.draining or len(actor.running) >= actor.limit:
            self._send(router.rejected(call, self.now, actor.draining))
        else:
            assert actor.begun, "a request came to a replica that has not begun"
            actor.running.add(call.ident)
            self.at(self.random.choice((0.01, 0.5, 4.0)) * self.random.random(), partial(self._answer, call, actor))
        self._wake(router)

    def _wake(self, router: RouterMachine) -> None:
        due = router.next_at(self.now)
        if due is not None and due < self._wakes.get(id(router), math.inf):
            self._wakes[id(router)] = due
            self.at(max(due - self.now, 0.0), lambda: self._tick(router, due))

    def _tick(self, router: RouterMachine, due: float) -> None:
        """Time has passed. Where replicas were full again meanwhile, it looks again, as the shell does."""
        if self._wakes.get(id(router)) == due:
            del self._wakes[id(router)]
        self._send(router.tick(self.now)[0])
        self._wake(router)

    def _answer(self, call: Call, actor: Actor) -> None:
        if call.outcome:
            return
        actor.running.discard(call.ident)
        call.outcome = "answered"
        self.answered += 1
        self._send(self.callers[call.caller].routers[call.deployment].done(call, self.now))

    def _break(self, call: Call) -> None:
        call.outcome = "broken"
        self.broken += 1
        self._send(self.callers[call.caller].routers[call.deployment].done(call, self.now))

    def _tell(self, caller: Caller) -> None:
        self.at(0.5, lambda: self._tell(caller))
        for ident, router in list(caller.routers.items()):
            if self.is_adopting:
                return
            running = {seat.id: seat.running for seat in router.seats.values()}
            row = HandleMetrics(str(caller.number), ident.app_name, ident.name, router.queued, running)
            self.machine.note_handle(row, self.now)
            self.follow()

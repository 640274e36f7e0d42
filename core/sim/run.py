"""One simulated run: a random workload with random faults, then no more faults, then everything must have ended.

Checked on the way: no node grants more than it has. Checked at the end: each task gave its one right value, or an error
that the faults explain. Calls ran in order, and all tables are empty.
"""

from __future__ import annotations

import random
import traceback
from collections import Counter
from collections.abc import Sized
from dataclasses import dataclass, field
from typing import Any

from hpc.core.head.columns import difference, rebuilt
from hpc.core.raylet.report import store_totals
from hpc.core.sim.detached import DetachedSim
from hpc.core.sim.groups import GroupSim
from hpc.core.sim.leaving import LeavingChecks
from hpc.core.sim.paths import watch
from hpc.core.sim.processes import Process
from hpc.core.sim.questions import Questions
from hpc.core.sim.users import User
from hpc.core.sim.vacating import Vacating
from hpc.core.sim.worker import WorkerSim
from hpc.core.sim.world import ARENA_BYTES, LATE_TICK_S, SMALL_ARENA_BYTES, World

MAX_VIRTUAL_S = 200.0
#: In this time after the last death is known, groups are reserved anew.
REPAIR_S = 0.5
#: In so long, at most, a node has moved all that it can.
LONG_DRAIN_S = 3.0
#: A node that ended silently is declared dead after seconds; what it held is let go then.
SETTLE_S = 10.0


@dataclass
class SeedReport:
    """What came of a seed. ``problems`` is empty when all promises held."""

    seed: int
    problems: list[str] = field(default_factory=list)
    story: list[str] = field(default_factory=list)
    tasks: int = 0
    deaths: int = 0
    spilled: int = 0
    holds: int = 0
    restored: int = 0
    virtual_s: float = 0.0
    #: How often each of the paths was taken that few programs lead to (`paths`).
    paths: Counter[str] = field(default_factory=Counter)
    #: A hash over all frames that were delivered (`Digest`), and their number.
    digest: str = ""
    frames: int = 0


def _memory(process: Process) -> dict[str, Sized]:
    """What a process reads, or waits for, in its node's memory."""
    pins = process.machine.pins
    return {"pins": pins.held, "fetches": pins.fetching, "arrivals": pins.arrivals, "admissions": pins.admitting}


class Simulation:
    """One run of one seed."""

    def __init__(
        self,
        seed: int,
        *,
        nodes: int = 3,
        operations: int = 30,
        faults: bool = True,
        groups: int = 10,
        heads: bool = False,
        drains: bool = False,
    ) -> None:
        self.rng = random.Random(seed)
        self.report = SeedReport(seed)
        self.workers: dict[Any, WorkerSim] = {}
        loss = self.rng.choice([0.0, 0.05, 0.3])
        cpus = self.rng.randint(1, 3)
        arena_bytes = SMALL_ARENA_BYTES if self.rng.random() < 0.5 else ARENA_BYTES
        self.world = world = World(seed, nodes, cpus, loss, self._worker_started, arena_bytes)
        self.report.paths = world.paths
        self.faults = world.faults = faults
        numbers = [0]
        places = [1] + ([self.rng.randint(1, nodes)] if self.rng.random() < 0.5 else [])
        self.users = [self._user(node, numbers) for node in places]
        #: Nodes are said to be taken away before they are; what each had leased when it heard of it.
        self.drains = drains
        self.leased_before: dict[int, int] = {}
        self.leaving = LeavingChecks(world)
        self.vacating = Vacating(world, seed) if seed % 3 == 0 else None
        #: Heads die too.
        self.questions = Questions(self.world, self.world.new_driver(1, lambda src, msg: None)) if heads else None
        at = 0.0
        for _ in range(operations):
            at += self.rng.random() * 0.02
            self.world.clock.after(at, self._operate)
        if faults and seed % 4 == 1:
            pause = random.Random(f"pause {seed}")
            self.world.clock.after(pause.random() * at, lambda: self._suspend(pause.choice([0.5, 4.0, 30.0, 70.0])))
        if faults and drains and nodes > 2:
            leaving = random.Random(f"drain {seed}")
            number, lasts_s = leaving.randint(2, nodes), leaving.random() * LONG_DRAIN_S
            self.world.clock.after((0.3 + 0.7 * leaving.random()) * at, lambda: self._drain(number, lasts_s))
        self.groups = [GroupSim(self.world, user.submitter, seed, self._problem) for user in self.users]
        for one in self.groups:
            for _ in range(groups // len(self.groups)):
                self.world.clock.after(one.rng.random() * at, one.operate)
        self.detached = DetachedSim(world, seed, self._problem) if heads else None
        if self.detached is not None:
            for _ in range(operations):
                self.world.clock.after(self.detached.rng.random() * at, self.detached.operate)
        self.quiet_at = at + 0.5
        self.groups_end_at = at + 1.2
        self.groups_ended = self.deaths_known = False
        self.unplaced: set[str] = set()

    def _user(self, node: int, numbers: list[int]) -> User:
        process = self.world.new_driver(node, lambda src, msg: None)
        watch(process, self.world.paths)
        return User(self.world, process, self.rng, numbers)

    def _worker_started(self, world: World, process: Process) -> None:
        self.workers[process.addr] = WorkerSim(world, process)

    def _living(self) -> list[User]:
        return [user for user in self.users if user.process.alive]

    def _operate(self) -> None:
        if self.faults and self.rng.random() < 0.1:
            self._fault()
        else:
            self.rng.choice(self._living()).operate()

    def _drain(self, number: int, lasts_s: float) -> None:
        """With the time to move what is there."""
        if sum(node.alive for node in self.world.nodes.values()) > 2:
            self.world.deaths += 1
            self.world.drain_node(number, lasts_s)

    def _suspend(self, length_s: float) -> None:
        self.world.suspend(length_s)
        self.quiet_at += length_s
        self.groups_end_at += length_s

    def _fault(self) -> None:
        alive = [w for w in self.workers.values() if w.process.alive]
        if self.questions is not None and self.rng.random() < 0.4:
            self.world.kill_head(self.rng.choice([0.0, 0.02, 0.5]))
            self.questions.ask(self.rng, [])
            return
        choice = self.rng.random()
        if choice < 0.7 and alive:
            behind = [w for w in alive if w.job is not None and w.loop.ready]
            worker = self.rng.choice(behind if behind and self.rng.random() < 0.5 else alive)
            self.world.deaths += 1
            if worker.process.published()[0] and self.rng.random() < 0.2:
                self.world.kill_process(worker.process, "its node has no memory left", "oom")
            else:
                self.world.kill_process(worker.process)
        elif choice < 0.75 and len(self._living()) > 1:
            self.world.deaths += 1
            self.world.kill_process(self.users[1].process)
        else:
            others = [n for n in self.world.nodes.values() if n.alive and n.number != 1]
            if len(others) > 1:
                self.world.deaths += 1
                if self.drains:
                    self.world.drain_node(self.rng.choice(others).number, self.rng.random() * 0.3)
                    return
                self.world.kill_node(self.rng.choice(others).number, silently=self.rng.random() < 0.3)

    def _end_groups(self) -> None:
        """Some time after all deaths are known, whatever has room is reserved; then the groups are removed."""
        head = self.world.head
        known = self.world.head_up and not any(node.suspect for node in head.nodes.values())
        known = known and {node.number for node in self.world.nodes.values() if node.alive} == set(head.nodes)
        if not known or not self.deaths_known:
            self.deaths_known = known
            self.groups_end_at = self.world.clock.now + REPAIR_S
            return
        unplaced = self.groups[0].unplaced()
        if unplaced and not self.unplaced:
            self.unplaced = unplaced
            self.groups_end_at = self.world.clock.now + REPAIR_S
            return
        for name in sorted(unplaced & self.unplaced):
            self._problem(f"{name} is not reserved, although there is room")
        self.groups_ended = True
        for one in self.groups:
            one.end()

    def _all_there(self) -> bool:
        waiting = [one.waiting for one in self.groups if one.submitter.process.alive]
        outlived = self.detached is None or self.detached.all_there()
        return outlived and not any(waiting) and all(user.all_there() for user in self._living())

    # -------------------------------------------------------------- checks

    def _problem(self, text: str) -> None:
        self.report.problems.append(f"{self.world.clock.now:.4f}: {text}")

    def _check_view(self) -> None:
        """The columns that the head keeps are those that it would make anew."""
        head = self.world.head
        wrong = difference(head.snapshot(), rebuilt(head.nodes))
        if wrong:
            self._problem(f"the head's view has {wrong}")

    def _check_draining(self) -> None:
        """A node that drains leases nothing new."""
        for number in self.world.draining:
            leasing = self.world.nodes[number].machine.leasing
            if leasing.closing.why and leasing.granted != self.leased_before.setdefault(number, leasing.granted):
                self._problem(f"node {number} drains and has leased a worker")

    def _check_empty(self) -> None:
        self.report.holds = self.world.head.groups.holds
        for user in self._living():
            machine = user.process.machine
            tables: dict[str, Sized] = {
                "objects": machine.state.entries,
                "unacknowledged holds": machine.objects.unacked,
                "tasks": machine.state.tasks,
                "calls": machine.state.calls,
                "runs of calls": machine.calls.runs.unfinished,
                "leases": machine.state.leases,
                "handed over": machine.state.handed_over,
                "origins": machine.state.origins,
                "values with an origin": machine.lineage.made_by,
                "generators": machine.state.streams,
                "actors": machine.state.actors,
                **_memory(user.process),
            }
            for name, table in tables.items():
                if table:
                    self._problem(f"the table of {name} of driver {machine.addr} still has {len(table)}")
        for node in self.world.nodes.values():
            if not node.alive:
                continue
            raylet = node.machine
            raylet.store.layout.check()
            if raylet.store.used_bytes or any((raylet.store.spiller.used_bytes, raylet.store.spiller.mapped_bytes)):
                self._problem(f"node {node.number} still uses memory or disk: {store_totals(raylet.store)}")
            self.report.holds += raylet.leasing.reservations.begun
            if raylet.leasing.reservations.waiting:
                self._problem(f"node {node.number} still keeps room for {raylet.leasing.reservations.waiting}")
            self.report.spilled += raylet.store.spiller.spilled_objects
            self.report.restored += raylet.store.spiller.restored_objects
            left: dict[str, Sized] = {
                "leases": raylet.leasing.leases,
                "leases that end": [proc for proc in raylet.leasing.procs.values() if proc.ending],
                "borrowed objects": raylet.borrowing.borrowed,
                "acknowledgements due": raylet.borrowing.acks_due,
                "objects": raylet.store.stored,
                "pulls": raylet.store.incoming,
                "readers waiting for room": raylet.store.sets,
                "writers waiting for room": raylet.store.wanted,
                "objects being written": raylet.store.writing.places,
                "spans": raylet.store.writing.spans,
                "objects freed before their Seal": [
                    *raylet.store.writing.freed_early,
                    *raylet.store.writing.freed_perhaps,
                ],
                "files": raylet.store.spiller.files,
                "nodes asked for bytes": raylet.store.pulls.asked_bytes,
                "waiting": [d for d in raylet.leasing.demands.values() if d.want],
            }
            for name, what in left.items():
                if what:
                    self._problem(f"node {node.number} still has {len(what)} {name}")
            drivers = [user.process for user in self.users]
            drivers += [caller.process for caller in self.detached.callers] if self.detached is not None else []
            for process in node.processes.values():
                if process.alive and process not in drivers:
                    for name, what in {"objects": process.machine.state.entries, **_memory(process)}.items():
                        if what:
                            self._problem(f"worker {process.addr} still has {len(what)} {name}")

    def run(self) -> SeedReport:
        """Run to the end and check."""
        world = self.world
        step = 0
        end_at: float | None = None
        while world.clock.now < MAX_VIRTUAL_S and world.clock.step():
            step += 1
            if step % 50 == 0:
                self.groups[0].check_sums()
                self.groups[0].check_domains()
                self._check_view()
                self._check_draining()
                self.leaving.look()
                if self.vacating is not None:
                    self.vacating.look()
            for text in world.broken:
                self._problem(text)
            if self.report.problems:
                break
            if not world.quiet and world.clock.now > self.quiet_at:
                world.quiet = True
                for link in world.links.values():
                    link.loss = 0.0
            if world.quiet and not self.groups_ended and world.clock.now > self.groups_end_at:
                self._end_groups()
            if self.groups_ended and end_at is None and self._all_there():
                end_at = world.clock.now + SETTLE_S
                world.tick_s = LATE_TICK_S
                for user in self._living():
                    user.finish()
                if self.detached is not None:
                    self.detached.check()
            if end_at is not None and world.clock.now > end_at:
                break
        if end_at is None and not self.report.problems:
            for user in self._living():
                missing = [i.hex()[24:] for i in user.expected if i not in user.done]
                self._problem(f"{len(missing)} of {len(user.expected)} tasks never ended: {missing[:3]}")
            for text in self.detached.unsettled() if self.detached is not None else ():
                self._problem(text)
        if not self.report.problems:
            self.groups[0].check_sums()
            self._check_empty()
            self.groups[0].check_empty()
            if self.detached is not None:
                self.detached.check_empty()
            for problem in self.questions.check() if self.questions is not None else []:
                self._problem(problem)
        self.report.deaths = world.deaths + world.head_restarts
        self.report.tasks = sum(user.tasks for user in self.users) + sum(one.tasks for one in self.groups)
        self.report.story = world.story
        self.report.virtual_s = world.clock.now
        return self.report


def run(seed: int, **knobs: Any) -> SeedReport:
    """Simulate one seed. An exception in a machine is a broken promise like any other."""
    simulation = Simulation(seed, **knobs)
    report, digest = simulation.report, simulation.world.digest
    try:
        simulation.run()
    except Exception:
        report.problems.append(traceback.format_exc(limit=-4))
        report.story = simulation.world.story
    report.digest, report.frames = str(digest), digest.frames
    return report

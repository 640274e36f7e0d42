"""One simulated run: a random workload with random faults, then no more faults, then everything must have ended.

Checked on the way: no node grants more than it has. Checked at the end: each task gave its one right value or an error
that the faults explain, calls ran in order, and all tables are empty.
"""

from __future__ import annotations

import random
from collections.abc import Sized
from dataclasses import dataclass, field
from typing import Any

from hpc.core.sim.programs import Program, Submitter, WorkerSim
from hpc.core.sim.questions import Questions
from hpc.core.sim.world import Process, World

MAX_VIRTUAL_S = 120.0


@dataclass
class Report:
    """What came of a seed. ``problems`` is empty when all promises held."""

    seed: int
    problems: list[str] = field(default_factory=list)
    story: list[str] = field(default_factory=list)
    tasks: int = 0
    deaths: int = 0
    virtual_s: float = 0.0


class Simulation:
    """One run of one seed."""

    def __init__(self, seed: int, *, nodes: int = 3, operations: int = 30, faults: bool = True) -> None:
        self.rng = random.Random(seed)
        self.report = Report(seed)
        self.workers: dict[Any, WorkerSim] = {}
        loss = self.rng.choice([0.0, 0.05, 0.3])
        self.world = World(seed, nodes, self.rng.randint(1, 3), loss, self._worker_started)
        self.faults = faults
        self.driver = self.world.new_driver(1, lambda src, msg: None)
        self.submitter = Submitter(self.world, self.driver)
        self.questions = Questions(self.world, self.driver)
        self.expected: dict[bytes, tuple[int, bool]] = {}
        self.done: set[bytes] = set()
        self.actors: list[bytes] = []
        self.dead_actors: set[bytes] = set()
        self._number = 0
        at = 0.0
        for _ in range(operations):
            at += self.rng.random() * 0.02
            self.world.clock.after(at, self._operate)
        self.quiet_at = at + 0.5

    def _worker_started(self, world: World, process: Process) -> None:
        self.workers[process.addr] = WorkerSim(world, process)

    # -------------------------------------------------------------- what the driver does

    def _program(self, depth: int = 0) -> tuple[Program, int]:
        self._number += 1
        children: list[Program] = []
        total = number = self._number
        if depth < 2 and self.rng.random() < 0.3:
            for _ in range(self.rng.randint(1, 3)):
                child, value = self._program(depth + 1)
                children.append(child)
                total += value
        program = Program(number, self.rng.choice([0.0001, 0.003, 0.05]), children)
        return program, total

    def _operate(self) -> None:
        choice = self.rng.random()
        if choice < 0.55:
            self._submit()
        elif choice < 0.65:
            self.actors.append(self.submitter.create())
        elif choice < 0.8 and self.actors:
            self._call()
        elif choice < 0.87:
            self._drop_one()
        elif choice < 0.9:
            self.questions.ask(self.rng, self.actors)
        elif self.faults:
            self._fault()

    def _submit(self) -> None:
        program, total = self._program()
        kind = self.rng.random()
        if not program.children and kind < 0.2:
            program.large = True
            program.number = total = 200_000 + program.number
        elif kind < 0.35:
            program.returns_refs = self.rng.randint(1, 3)
        refs: list[bytes] = []
        if self.expected and self.rng.random() < 0.4:
            ref = self.rng.choice(list(self.expected))
            refs = [ref]
            total += self.expected[ref][0]
        ident = self.submitter.submit(program, refs)
        # What an actor returned may be lost with it, and with that what depends on it; all else is computed again.
        self.expected[ident] = (total, any(self.expected[r][1] for r in refs))
        self._watch(ident)

    def _call(self) -> None:
        actor = self.rng.choice(self.actors)
        self._number += 1
        ident = self.submitter.call(actor, Program(self._number, 0.002))
        self.expected[ident] = (self._number, True)
        self._watch(ident)

    def _watch(self, ident: bytes) -> None:
        self.report.tasks += 1
        self.submitter.when_all([ident], lambda: self.done.add(ident))

    def _drop_one(self) -> None:
        finished = [i for i in self.expected if i in self.done and self.submitter.has_value(i)]
        if finished:
            ident = self.rng.choice(finished)
            self._check_value(ident)
            del self.expected[ident]
            self.submitter.drop([ident])

    def _fault(self) -> None:
        alive = [w for w in self.workers.values() if w.process.alive]
        if self.rng.random() < 0.25:
            self.report.deaths += self.world.head_up
            self.world.kill_head(self.rng.choice([0.0, 0.02, 0.5]))
            self.questions.ask(self.rng, self.actors)
            return
        if self.rng.random() < 0.7 and alive:
            worker = self.rng.choice(alive)
            task = worker.published()
            self.report.deaths += 1
            self.world.kill_process(worker.process, task=task)
        else:
            others = [n for n in self.world.nodes.values() if n.alive and n.number != 1]
            if len(others) > 1:
                self.report.deaths += 1
                self.world.kill_node(self.rng.choice(others).number)

    # -------------------------------------------------------------- checks

    def _problem(self, text: str) -> None:
        self.report.problems.append(f"{self.world.clock.now:.4f}: {text}")

    def _check_value(self, ident: bytes) -> None:
        expected, may_be_lost = self.expected[ident]
        value = self.submitter.result(ident)
        if value != expected and not (isinstance(value, str) and may_be_lost):
            self._problem(f"object {ident.hex()[16:]} is {value!r}, not {expected}")

    def _check_resources(self) -> None:
        for node in self.world.nodes.values():
            leasing = node.machine.leasing
            held = sum(le.grant.amounts.get("CPU", 0) for le in leasing.leases.values() if not le.grant.cpu_lent)
            total, free = leasing.resources.totals["CPU"], leasing.resources.free["CPU"]
            if held + free != total:
                self._problem(f"node {node.number}: {held} held and {free} free of {total} CPU units")

    def _check_empty(self) -> None:
        machine = self.driver.machine
        tables: dict[str, Sized] = {
            "objects": machine.objects,
            "tasks": machine.tasks,
            "calls": machine.calls,
            "leases": machine.leases,
            "handed over": machine.handed_over,
            "origins": machine.origins,
            "values with an origin": machine.made_by,
        }
        for name, table in tables.items():
            if table:
                self._problem(f"the driver's table of {name} still has {len(table)}")
        for node in self.world.nodes.values():
            if not node.alive:
                continue
            raylet = node.machine
            raylet.memory.layout.check()
            left: dict[str, Sized] = {
                "leases": raylet.leasing.leases,
                "holds": raylet.borrowing.holds,
                "objects": raylet.memory.stored,
                "pulls": raylet.memory.incoming,
                "waiting": [d for d in raylet.leasing.demands.values() if d.want],
            }
            for name, what in left.items():
                if what:
                    self._problem(f"node {node.number} still has {len(what)} {name}")
            for process in node.processes.values():
                if process.alive and process is not self.driver and process.machine.objects:
                    self._problem(f"worker {process.addr} still has {len(process.machine.objects)} objects")

    def _all_there(self) -> bool:
        """Whether all values are there: a lost one may be being computed again."""
        return all(i in self.done for i in self.expected) and all(map(self.submitter.has_value, self.expected))

    def run(self) -> Report:
        """Run to the end and check."""
        world = self.world
        step = 0
        ending = False
        while world.clock.now < MAX_VIRTUAL_S and world.clock.step():
            step += 1
            if step % 50 == 0:
                self._check_resources()
            if self.report.problems:
                break
            if not world.quiet and world.clock.now > self.quiet_at:
                world.quiet = True
                for link in world.links.values():
                    link.loss = 0.0
            if world.quiet and not ending and self._all_there():
                ending = True
                for ident in list(self.expected):
                    self._check_value(ident)
                self.submitter.drop([*self.expected, *self.actors])
                self.expected.clear()
                end_at = world.clock.now + 3.0
            if ending and world.clock.now > end_at:
                break
        if not ending and not self.report.problems:
            missing = [i.hex()[16:] for i in self.expected if i not in self.done]
            self._problem(f"{len(missing)} of {len(self.expected)} tasks never ended: {missing[:3]}")
        if not self.report.problems:
            self._check_resources()
            self._check_empty()
            for problem in self.questions.check():
                self._problem(problem)
        self.report.story = world.story
        self.report.virtual_s = world.clock.now
        return self.report


def run(seed: int, **knobs: Any) -> Report:
    """Simulate one seed."""
    return Simulation(seed, **knobs).run()

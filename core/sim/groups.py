"""Placement groups in the simulation: made, used and removed at random times, beside everything else.

Beside them are tasks that need a whole node: they find no room unless it is kept for them.

Checked on the way: on each node, what is free, leased and reserved adds up to what there is. So it does in each bundle
and on each device. What a group has is below the switches that it asked for. A task in a group gives its value, or says
that the group was removed, and then it was. Checked when the faults have ended: whatever has room is reserved. At the
end nobody holds a bundle. Heads may die beside this: what was asked of one that died is asked again, as a real driver
does.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from hpc.core.head.group import CREATED, REMOVED
from hpc.core.ids import HEAD, Address
from hpc.core.owner.tables import Shape
from hpc.core.policy.labels import SWITCH
from hpc.core.raylet.leasing import Leasing
from hpc.core.resources import UNIT
from hpc.core.sim.programs import Program, Submitter
from hpc.core.sim.world import World
from hpc.core.wire import Answer, Message, PgCreate, PgRemove

FIRST_REQ = 1 << 30  # out of the way of the other questions of the process
STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")
TOPOLOGIES: list[list[list[str]]] = [[], [], *([[SWITCH, how]] for how in STRATEGIES)]


class GroupSim:
    """What the driver does with groups. ``problem`` takes what went wrong."""

    def __init__(self, world: World, submitter: Submitter, seed: int, problem: Callable[[str], None]) -> None:
        self.world = world
        self.submitter = submitter
        self.rng = random.Random(seed * 31 + submitter.process.addr.proc)
        self.topology_rng = random.Random(f"topology {seed} {submitter.process.addr.proc}")
        self.problem = problem
        self.living: list[tuple[bytes, int]] = []
        self.removed: set[bytes] = set()
        self.actors: list[bytes] = []
        self.waiting = 0
        self.tasks = 0
        self._req = FIRST_REQ
        submitter.process.on_message = self._on_message

    def _ask(self, msg: PgCreate | PgRemove) -> None:
        machine = self.submitter.process.machine
        machine.state.asked[msg.req] = msg
        machine.send(HEAD, msg)
        self.world.flush(self.submitter.process)

    def _next_req(self) -> int:
        self._req += 1
        return self._req

    def _on_message(self, src: Address, msg: Message) -> None:
        if isinstance(msg, Answer):
            self.submitter.process.machine.state.asked.pop(msg.req, None)

    def operate(self) -> None:
        """One random thing."""
        if not self.submitter.process.alive:
            return
        if self.rng.random() < 0.2:
            self._submit_large()
        choice = self.rng.random()
        if choice < 0.3 or not self.living:
            self._create()
        elif choice < 0.75:
            self._submit()
        elif choice < 0.85:
            self._create_actor()
        else:
            self.remove(self.rng.choice(self.living))

    def _create(self) -> None:
        machine = self.submitter.process.machine
        ident = machine.new_ids()
        bundles = [{"CPU": UNIT * self.rng.choice([1, 1, 2])} for _ in range(self.rng.randint(1, 3))]
        strategy = self.rng.choice(STRATEGIES)
        topology = [] if strategy == "STRICT_PACK" else self.topology_rng.choice(TOPOLOGIES)
        msg = PgCreate(self._next_req(), ident, "", "", strategy, bundles, [], False, machine.addr, topology)
        self._ask(msg)
        self.living.append((ident, len(bundles)))
        self.world.tell(f"group {ident.hex()[24:]} {strategy} of {len(bundles)} is wanted")

    def _shape(self, actor: bool) -> tuple[bytes, Shape]:
        group, size = self.rng.choice(self.living)
        index = self.rng.choice([-1, *range(size)])
        held = {"CPU": UNIT}
        shape = Shape({} if actor else held, held, ["pg", group, index, False], {}, actor)
        return group, self.submitter.process.machine.leases.add_shape(shape)

    def _submit(self) -> None:
        group, shape = self._shape(False)
        for _ in range(self.rng.randint(1, 4)):
            self.tasks += 1
            number = 1_000_000 + self.tasks
            program = Program(number, self.rng.choice([0.0001, 0.003, 0.05]))
            ident = self.submitter.submit(program, [], shape=shape)
            self.waiting += 1
            self.submitter.when_all([ident], lambda ident=ident, number=number: self._done(ident, number, group))

    def _submit_large(self) -> None:
        """A task outside of all groups that needs a whole node."""
        held = dict(self.world.nodes[1].machine.leasing.resources.totals)
        shape = self.submitter.process.machine.leases.add_shape(Shape(held, held, "DEFAULT", {}, False))
        self.tasks += 1
        number = 1_000_000 + self.tasks
        ident = self.submitter.submit(Program(number, 0.003), [], shape=shape)
        self.waiting += 1
        self.submitter.when_all([ident], lambda: self._done(ident, number, b""))

    def _done(self, ident: bytes, number: int, group: bytes) -> None:
        value = self.submitter.result(ident)
        self.waiting -= 1
        if value != number and not (value == "TaskPlacementGroupRemoved" and group in self.removed):
            self.problem(f"task {number} in group {group.hex()[24:]} gave {value!r}")
        self.submitter.drop([ident])

    def _create_actor(self) -> None:
        _, shape = self._shape(True)
        self.actors.append(self.submitter.create(restarts=1, shape=shape))

    def remove(self, which: tuple[bytes, int]) -> None:
        """Remove a group."""
        self.living.remove(which)
        self.removed.add(which[0])
        self._ask(PgRemove(self._next_req(), which[0]))
        self.world.tell(f"group {which[0].hex()[24:]} is removed")

    # -------------------------------------------------------------- checks

    def check_domains(self) -> None:
        """What a group has is in the domains that it asked for."""
        head = self.world.head
        for group in head.groups.table.values():
            for key, how in group.topology:
                values = [head.labels_of(node)[key] for node in group.nodes if node in head.nodes]
                wrong = {"STRICT_PACK": len(set(values)) > 1, "STRICT_SPREAD": len(set(values)) < len(values)}
                if wrong.get(how):
                    self.problem(f"group {group.group.hex()[24:]} has {how} over {key} and is in {values}")

    def check_sums(self) -> None:
        """No unit is reserved or granted twice, and none is lost."""
        for node in self.world.nodes.values():
            if not node.alive:
                continue
            leasing = node.machine.leasing
            bundles = [*leasing.bundles.held.values(), *leasing.bundles.returning]
            self._check_devices(node.number, leasing)
            used: dict[int, int] = {}
            ending = [proc.ending for proc in leasing.procs.values() if proc.ending is not None]
            for lease in [*leasing.leases.values(), *ending]:
                cpu = 0 if lease.grant.cpu_lent else lease.grant.amounts.get("CPU", 0)
                used[id(lease.pool)] = used.get(id(lease.pool), 0) + cpu
            reserved = sum(b.grant.amounts.get("CPU", 0) for b in bundles)
            pools = [("node", leasing.resources, reserved)]
            pools += [(f"bundle {b.index} of {b.group.hex()[24:]}", b.pool, 0) for b in bundles]
            for name, pool, out in pools:
                held, free, total = used.get(id(pool), 0), pool.free.get("CPU", 0), pool.totals.get("CPU", 0)
                if held + free + out != total:
                    self.problem(f"node {node.number}, {name}: {held} leased, {free} free, {out} reserved of {total}")

    def _check_devices(self, number: int, leasing: Leasing) -> None:
        """No part of a device is granted twice, and none is lost."""
        there = leasing.resources.instances.get("GPU", {})
        held = dict.fromkeys(there, 0)
        ending = [proc.ending for proc in leasing.procs.values() if proc.ending is not None]
        for lease in [*leasing.leases.values(), *ending]:
            for ident, units in lease.grant.shares.get("GPU", {}).items():
                held[ident] += units
        wrong = [ident for ident, left in there.items() if left < 0 or left + held[ident] != UNIT]
        if wrong:
            self.problem(f"node {number}, devices {wrong}: {held} leased, {there} free")

    def unplaced(self) -> set[str]:
        """Groups that are not reserved although the head sees room for them, or that are in the middle of it."""
        snapshot = self.world.head.snapshot()
        found = set()
        for group in self.world.head.groups.table.values():
            if group.state == CREATED:
                continue
            if (group.awaited and not group.patient) or group.places(snapshot, self.world.head.labels_of) is not None:
                found.add(f"group {group.group.hex()[24:]} ({group.strategy}, {group.state})")
        return found

    def end(self) -> None:
        """No more groups are needed."""
        if not self.submitter.process.alive:
            return
        self.submitter.drop(self.actors)
        for which in list(self.living):
            self.remove(which)

    def check_empty(self) -> None:
        """Nobody holds anything for a group."""
        if self.submitter.process.alive and self.waiting:
            self.problem(f"{self.waiting} of {self.tasks} tasks in groups never ended")
        groups = self.world.head.groups
        for group in (*groups.table.values(), *groups.removed.values()):
            if group.state != REMOVED or any(group.nodes) or group.planned:
                self.problem(f"the head still has {group}")
        submitter = self.submitter.process
        if submitter.alive and any(req > FIRST_REQ for req in submitter.machine.state.asked):
            self.problem("questions about groups have no answer")
        for node in self.world.nodes.values():
            bundles = node.machine.leasing.bundles
            if node.alive and (bundles.held or bundles.returning):
                self.problem(f"node {node.number} still holds {len(bundles.held) + len(bundles.returning)} bundles")

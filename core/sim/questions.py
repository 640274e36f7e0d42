"""What the simulated driver asks the head, and what it must be told although heads die.

Each key is set once, each name is given once, and both are known to whatever head works at the end. Some keys are
deleted again. A watch on all keys has told of those that there are then.
"""

from __future__ import annotations

import random

from hpc.core.ids import HEAD, Address
from hpc.core.owner.watched import Watched
from hpc.core.sim.processes import Process
from hpc.core.sim.world import World
from hpc.core.wire import Answer, KvDelete, KvPut, KvWatch, Message, NameRegister

SPACE = "sim"


class Questions:
    """The questions of one driver and their answers."""

    def __init__(self, world: World, process: Process) -> None:
        self.world = world
        self.process = process
        self.keys: dict[int, bytes] = {}
        self.names: dict[int, bytes] = {}
        self.answers: dict[int, Answer] = {}
        self.problems: list[str] = []
        self._req = 0
        self._deleted: set[bytes] = set()
        self._watched = Watched(SPACE, b"", True)
        self._watch = 0
        self._known: dict[bytes, bytes] = {}
        process.on_message = self._on_message

    def ask(self, rng: random.Random, actors: list[bytes]) -> None:
        """Ask something: set a key that nobody has set, or name an actor."""
        self._req += 1
        req = self._req
        machine = self.process.machine
        actor = rng.choice(actors) if actors else b""
        owned = machine.state.actors.get(actor)
        msg: KvPut | NameRegister
        if owned is not None and owned.state != "dead" and not owned.name and rng.random() < 0.5:
            owned.name, owned.namespace = f"name{req}", SPACE
            self.names[req] = actor
            msg = NameRegister(req, SPACE, owned.name, actor, b"handle")
        else:
            key = self.keys[req] = b"key%d" % req
            msg = KvPut(req, SPACE, key, b"value%d" % req, overwrite=False)
        self._say(msg)
        there = {self.keys[number] for number in self.answers if number in self.keys}
        left = sorted(there - self._deleted)
        if left and rng.random() < 0.3:
            self._req += 1
            key = rng.choice(left)
            self._deleted.add(key)
            self._say(KvDelete(self._req, SPACE, key))
        if not self._watch:
            self._watch_again()
        self.world.flush(self.process)

    def _say(self, msg: KvPut | KvDelete | NameRegister | KvWatch) -> None:
        self.process.machine.state.asked[msg.req] = msg
        self.process.machine.send(HEAD, msg)

    def _watch_again(self) -> None:
        self._req += 1
        self._watch = self._req
        self._say(self._watched.question(self._watch))

    def _on_message(self, src: Address, msg: Message) -> None:
        if not isinstance(msg, Answer):
            return
        if self.process.machine.state.asked.pop(msg.req, None) is None:
            return
        self.answers[msg.req] = msg
        if msg.req == self._watch:
            for key, value, _ in self._watched.learn(msg.data):
                if value is None:
                    del self._known[key]
                else:
                    self._known[key] = value
            self._watch_again()
            self.world.flush(self.process)
            return
        if not msg.ok or (msg.req in self.keys and msg.data == b"0"):
            self.problems.append(f"question {msg.req} was answered {msg}")

    @property
    def all_answered(self) -> bool:
        """Whether no question is left."""
        return not [req for req in self.process.machine.state.asked if req > 0 and req != self._watch]

    def check(self) -> list[str]:
        """What is wrong at the end, when all actors are gone."""
        head = self.world.head
        problems = list(self.problems)
        if not self.all_answered:
            problems.append("questions to the head have no answer")
        for req, key in self.keys.items():
            if head.kv.get((SPACE, key)) != (None if key in self._deleted else b"value%d" % req):
                problems.append(f"the head does not know what became of {key!r}")
        there = {key: value for (space, key), value in head.kv.items() if space == SPACE}
        if self._watch and self._known != there:
            problems.append(f"the watch told {sorted(self._known)}, and there are {sorted(there)}")
        if head.watches.waiting != bool(self._watch):
            problems.append(f"{head.watches.waiting} questions about keys wait")
        if head.names:
            problems.append(f"the head still has the names {list(head.names)}")
        alive = {n.number for n in self.world.nodes.values() if n.alive}
        if set(head.nodes) != alive:
            problems.append(f"the head believes that nodes {sorted(head.nodes)} live, not {sorted(alive)}")
        for number, node in head.nodes.items():
            free = self.world.nodes[number].machine.leasing.resources.free
            if node.suspect or node.free != free:
                problems.append(f"the head believes that node {number} has {node.free} free, not {free}")
            pieces = self.world.nodes[number].machine.leasing.resources.pieces()
            if node.pieces != pieces:
                problems.append(f"the head believes that node {number} has {node.pieces} on its devices, not {pieces}")
        if head.demands.table:
            problems.append(f"the head still has demands: {list(head.demands.table)}")
        return problems

"""Detached actors in the simulation: made, called and killed by drivers that come and go, while heads die beside them.

Checked on the way, for all actors: a constructor begins in one process at a time, and nowhere twice. A call of a
detached actor gives its value, unless the process in which the actor ran has died. That a head dies is no excuse.
Checked at the end: each actor was made once, and lives where it began unless that process died. It was made again as
often as it may be. What was killed has ended, and the head knows of nothing any more.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import msgspec

from hpc.core.ids import HEAD
from hpc.core.resources import UNIT
from hpc.core.sim.processes import Process
from hpc.core.sim.programs import FN, Program, Submitter
from hpc.core.sim.world import World
from hpc.core.wire import Answer, CreateActor, KeepActor, Message, NameRegister, NewActor

SPACE = "detached"
#: Paths that few programs lead to, as those in `paths`.
MADE_WITHOUT_HEAD, KILLED_WITHOUT_HEAD = "an actor asked for without a head", "an actor killed without a head"
DIED_WITHOUT_HEAD, MADE_AGAIN = "a detached actor that dies without a head", "a detached actor made again"
MAKER_DIED, INHERITED = "an actor whose maker has died", "made again from a large value of a driver that has died"
SEEN = (MADE_WITHOUT_HEAD, KILLED_WITHOUT_HEAD, DIED_WITHOUT_HEAD, MADE_AGAIN, MAKER_DIED, INHERITED)


@dataclass(eq=False)
class Made:
    """A detached actor, as those who call it know it. ``needs`` are what its constructor was given."""

    restarts: int
    maker: Caller
    ident: bytes = b""
    name: str = ""
    #: The driver that has killed it: if that dies as well the head may never hear of it.
    killer: Caller | None = None
    #: Whether the head has said that it is its own.
    kept: bool = False
    ref: bytes = b""
    large: bool = False
    #: Whether that had no value yet when the actor was wanted: then it is lost with the driver.
    waits: bool = False

    @property
    def killed(self) -> bool:
        """Whether somebody wanted its end."""
        return self.killer is not None

    @property
    def must_end(self) -> bool:
        """Whether the head must have heard of that."""
        return self.killer is not None and self.killer.process.alive


@dataclass(eq=False)
class Caller:
    """A driver that makes and calls detached actors: what it has asked, and what it waits for."""

    process: Process
    submitter: Submitter
    answers: dict[int, Callable[[Answer], None]] = field(default_factory=dict)
    waiting: set[bytes] = field(default_factory=set)
    asked: int = 0
    #: Actors that are being made.
    making: int = 0


class DetachedSim:
    """What drivers do with detached actors. ``problem`` takes what went wrong."""

    def __init__(self, world: World, seed: int, problem: Callable[[str], None]) -> None:
        self.world = world
        self.rng = random.Random(f"detached {seed}")
        self.problem = problem
        self.actors: list[Made] = []
        self.calls = self.failed = 0
        nodes = list(world.nodes)
        self.callers = [self._caller(number) for number in (1, self.rng.choice(nodes), self.rng.choice(nodes))]

    def _caller(self, number: int) -> Caller:
        process = self.world.new_driver(number, lambda src, msg: None)
        caller = Caller(process, Submitter(self.world, process))
        process.on_message = lambda src, msg: self._on_message(caller, msg)
        return caller

    def _living(self) -> list[Caller]:
        return [caller for caller in self.callers if caller.process.alive]

    # -------------------------------------------------------------- questions

    def _ask(self, caller: Caller, build: Callable[[int], Message], then: Callable[[Answer], None]) -> None:
        caller.asked += 1
        msg, machine = build(caller.asked), caller.process.machine
        machine.state.asked[caller.asked] = msg
        caller.answers[caller.asked] = then
        machine.send(HEAD, msg)
        self.world.flush(caller.process)

    def _on_message(self, caller: Caller, msg: Message) -> None:
        if isinstance(msg, Answer) and caller.process.machine.state.asked.pop(msg.req, None) is not None:
            caller.answers.pop(msg.req)(msg)

    def _sees(self, path: str, taken: bool) -> None:
        if taken:
            self.world.paths[path] += 1

    # -------------------------------------------------------------- operations

    def operate(self) -> None:
        """One random thing."""
        choice, caller = self.rng.random(), self.rng.choice(self._living())
        there = [made for made in self.actors if made.ident and not made.killed]
        if choice < 0.25 or not there:
            self._make(caller)
        elif choice < 0.65:
            self._call(caller, self.rng.choice(there))
        elif choice < 0.72:
            self._kill(caller, self.rng.choice(there))
        elif choice < 0.75:
            self._forget(caller, self.rng.choice(there))
        elif self.world.faults:
            orphans = [made for made in there if not made.maker.process.alive]
            self._fault(self.rng.choice(orphans if orphans and self.rng.random() < 0.5 else there))

    def _fault(self, made: Made) -> None:
        """The head dies, or the process that is an actor, or both at once, or a driver."""
        choice = self.rng.random()
        if choice < 0.6:
            self.world.kill_head(self.rng.choice([0.0, 0.005, 0.05, 0.3]))
        if 0.4 < choice < 0.85:
            self._kill_host(made)
        living = self._living()
        if choice > 0.85 and len(living) > 1:
            self._kill_driver(living[1])

    def _kill_host(self, made: Made) -> None:
        running = [process for process in self.world.hosts[made.ident] if process.alive]
        if running and not self.world.quiet:
            self.world.deaths += 1
            self._sees(DIED_WITHOUT_HEAD, not self.world.head_up)
            self.world.kill_process(running[0])

    def _kill_driver(self, caller: Caller) -> None:
        """It dies, and some time later the processes of actors that were made from its large values."""
        self.world.deaths += 1
        self.world.kill_process(caller.process)
        for made in self.actors:
            if made.maker is caller and made.large and made.ident:
                self.world.clock.after(0.05 + self.rng.random() * 0.3, lambda made=made: self._kill_host(made))  # type: ignore[misc]

    def _make(self, caller: Caller) -> None:
        made = Made(self.rng.choice([0, 1, 2, -1, -1]), caller, name=self.rng.choice(["", f"actor {len(self.actors)}"]))
        kind = self.rng.random()
        if kind < 0.3:
            made.ref = caller.submitter.put(self.rng.randrange(100), [])
        elif kind < 0.75:  # the value of a task: it lies in the memory of some node
            made.large = True
            made.ref = caller.submitter.submit(Program(300_000 + len(self.actors), large=True), [])
        self.actors.append(made)
        caller.making += 1
        if made.ref and self.rng.random() < 0.8:
            caller.submitter.when_all([made.ref], lambda: self._begin(made))
        else:
            self._begin(made)

    def _begin(self, made: Made) -> None:
        if made.maker.process.alive:
            made.waits = bool(made.ref) and not made.maker.submitter.has_value(made.ref)
            self._sees(MADE_WITHOUT_HEAD, not self.world.head_up)
            self._ask(made.maker, NewActor, lambda answer: self._has_id(made, answer.data))

    def _has_id(self, made: Made, ident: bytes) -> None:
        if made.name:
            register = lambda req: NameRegister(req, SPACE, made.name, ident, b"handle")  # noqa: E731
            self._ask(made.maker, register, lambda answer: self._keep(made, ident))
        else:
            self._keep(made, ident)

    def _keep(self, made: Made, ident: bytes) -> None:
        caller = made.maker
        args = msgspec.msgpack.encode(Program(0, self.rng.choice([0.0, 0.003])))
        options = {"name": made.name, "namespace": SPACE}
        create = CreateActor(ident, 0, FN, "actor", args, options, refs=(made.ref,) if made.ref else ())
        driver = caller.process.addr
        known = caller.process.machine.objects.known(create.refs)
        made.ident = ident

        def kept(answer: Answer) -> None:
            made.kept = True
            caller.making -= 1
            if not answer.ok:
                self.problem(f"the head refuses an actor: {answer.why}")
            if made.ref:
                caller.submitter.drop([made.ref])

        self._ask(
            caller,
            lambda req: KeepActor(
                req, create, {}, {"CPU": UNIT}, "DEFAULT", {}, made.restarts, b"code", b"", driver, known
            ),
            kept,
        )

    def _call(self, caller: Caller, made: Made) -> None:
        """A few calls, of which some may be repeated."""
        for _ in range(self.rng.choice([1, 1, 3, 20])):
            self._call_once(caller, made, 2_000_000 + self.calls, self.rng.choice([0, 0, -1]))
            self.calls += 1

    def _call_once(self, caller: Caller, made: Made, number: int, retries: int) -> None:
        program = Program(number, self.rng.choice([0.0, 0.0001, 0.002]))
        ident = caller.submitter.call(made.ident, program, retries)
        caller.waiting.add(ident)
        caller.submitter.when_all([ident], lambda: self._done(caller, made, ident, number, retries))

    def _done(self, caller: Caller, made: Made, ident: bytes, number: int, retries: int) -> None:
        if not caller.process.alive:
            return
        value = caller.submitter.result(ident)
        caller.waiting.discard(ident)
        caller.submitter.drop([ident])
        if value == number:
            return
        self.failed += 1
        if not isinstance(value, str):
            self.problem(f"call {number} of detached actor {made.ident.hex()[24:]} gave {value!r}")
        elif not made.killed and not (self._may_be_lost(made) or (self._has_died(made) and not retries)):
            self.problem(f"call {number} of detached actor {made.ident.hex()[24:]} failed for nothing: {value}")

    def _kill(self, caller: Caller, made: Made) -> None:
        made.killer = caller
        self._sees(KILLED_WITHOUT_HEAD, not self.world.head_up)
        caller.submitter.kill(made.ident)

    def _forget(self, caller: Caller, made: Made) -> None:
        """A handle is taken and let go of again."""
        caller.process.machine.objects.hold(made.ident)
        caller.submitter.drop([made.ident])

    # -------------------------------------------------------------- what may have happened

    def _dead_hosts(self, made: Made) -> int:
        return sum(not process.alive for process in self.world.hosts[made.ident])

    def _has_died(self, made: Made) -> bool:
        return self.world.nodes_died() or self._dead_hosts(made) > 0

    def _may_be_lost(self, made: Made) -> bool:
        """Whether it may have ended for good: it has died too often. A node that dies may take a process with it that
        had not begun, and nobody knows that."""
        if not made.maker.process.alive and (made.waits or not made.kept):
            return True  # nobody has made it, or its argument died with its maker before the head had it
        if made.large and (self.world.small or self.world.nodes_died()):
            return True  # the value has no room where the actor is to be made, or its node is gone
        return made.restarts >= 0 and (self.world.nodes_died() or self._dead_hosts(made) > made.restarts)

    # -------------------------------------------------------------- the end

    def all_there(self) -> bool:
        """Whether nothing is waited for, all live that may, and none that was killed."""
        waiting = any(caller.waiting or caller.making for caller in self._living())
        return not waiting and not self.unsettled()

    def unsettled(self) -> list[str]:
        """Actors that live and should not, or the other way round."""
        found = []
        for made in self.actors:
            hosts = self.world.hosts[made.ident] if made.ident else []
            alive = any(process.alive for process in hosts)
            if made.ident and (made.must_end if alive else not made.killed and not self._may_be_lost(made)):
                what = "was killed and lives" if alive else f"has ended, and could be made again {made.restarts} times"
                found.append(f"detached actor {made.ident.hex()[24:]} {what}: it began {len(hosts)} times")
        return found

    def check(self) -> None:
        """Each actor was made as often as it may be; then all are killed."""
        for made in self.actors:
            if not made.ident:
                continue
            hosts = self.world.hosts[made.ident]
            orphan = any(process.alive for process in hosts) and not made.maker.process.alive
            self._sees(MADE_AGAIN, len(hosts) > 1)
            self._sees(MAKER_DIED, orphan)
            self._sees(INHERITED, orphan and made.large and len(hosts) > 1)
            if 0 <= made.restarts < len(hosts) - 1:
                name = f"detached actor {made.ident.hex()[24:]}"
                self.problem(f"{name} began {len(hosts)} times and may be made again {made.restarts} times")
        for made in self.actors:
            if made.ident and not made.must_end:
                self._kill(self._living()[0], made)

    def check_empty(self) -> None:
        """The head knows of no actor any more."""
        detached = self.world.head.detached
        owner = detached.owner
        tables: dict[str, Collection[Any]] = {
            "actors": owner.state.actors,
            "objects": owner.state.entries,
            "leases": owner.state.leases,
            "rows": [*detached.rows()],
            "unacknowledged holds": owner.objects.unacked,
            "names": [name for space, name in self.world.head.names if space == SPACE],
            "shapes that wait": [shape for shape in owner.state.shapes if shape.actors or shape.want],
        }
        for name, table in tables.items():
            if table:
                self.problem(f"the head still has {len(table)} {name} of detached actors: {list(table)[:3]}")
        if any(process.alive for made in self.actors for process in self.world.hosts.get(made.ident, ())):
            self.problem("a detached actor lives although all were killed")

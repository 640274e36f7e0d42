"""A driver in the simulation: what it does at random, and what it must get for it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from hpc.core.sim.processes import Process
from hpc.core.sim.programs import Program, Submitter
from hpc.core.sim.reading import Glances
from hpc.core.sim.world import World

#: What a value may have beside its number, and so many of those are together too much for a message.
PADDING, MANY = 400, 16
#: A task that is over as soon as it has begun.
SHORT_S = 0.00003
#: A task that needs large values together has so many of them.
FEW = 3


@dataclass(eq=False)
class Expect:
    """What an object's value must be, unless it, or something it was made of, may fail."""

    total: int
    may_fail: bool = False
    deps: list[Expect] = field(default_factory=list)
    inner: list[Expect] = field(default_factory=list)
    actor: ActorSim | None = None
    #: A worker of this world owns it, or runs it once at most: it is lost with that, but no worker ends by itself while
    #: it is held.
    kept_in: World | None = None
    #: A call that needs a value of its own actor. When that is lost with a node of this world it is made again behind
    #: the call.
    behind_in: World | None = None

    def origins(self) -> Iterator[Expect]:
        """This and all that it was made of."""
        waiting, seen = [self], set()
        while waiting:
            one = waiting.pop()
            if id(one) not in seen:
                seen.add(id(one))
                yield one
                waiting += one.deps

    def excused(self) -> bool:
        """Whether an error is allowed."""
        return any(one._may_fail() for one in self.origins())

    def _may_fail(self) -> bool:
        kept, behind = self.kept_in, self.behind_in
        return self.may_fail or (kept is not None and kept.deaths > 0) or (behind is not None and behind.nodes_died())


@dataclass
class ActorSim:
    """An actor as its creator sees it. One with endless restarts loses nothing but what it had in its memory."""

    ident: bytes
    immortal: bool
    killed: bool = False
    #: What the arguments of its constructor are: without them it does not live.
    deps: list[Expect] = field(default_factory=list)

    def may_fail(self, small: bool) -> bool:
        """Whether its calls may; ``small``: what it was given may have no room in memory."""
        return not self.immortal or self.killed or (small and bool(self.deps))

    def excused(self) -> bool:
        """Whether its constructor may have failed."""
        return any(one.excused() for one in self.deps)


class User:
    """One driver and its random operations."""

    def __init__(self, world: World, process: Process, rng: random.Random, numbers: list[int]) -> None:
        self.world = world
        self.process = process
        self.rng = rng
        self.submitter = Submitter(world, process)
        self.glances = Glances(world, process, rng)
        self.expected: dict[bytes, Expect] = {}
        self.done: set[bytes] = set()
        self.actors: list[ActorSim] = []
        self.streams: dict[bytes, bool] = {}
        self.tasks = 0
        self._numbers = numbers

    # -------------------------------------------------------------- operations

    def operate(self) -> None:
        """One random thing."""
        choice = self.rng.random()
        if choice < 0.4:
            self._submit()
        elif choice < 0.5:
            immortal = self.rng.random() < 0.5
            refs = self._some(0.3)
            ident = self.submitter.create(-1 if immortal else 0, refs=refs)
            self.actors.append(ActorSim(ident, immortal, deps=[self.expected[ref] for ref in refs]))
        elif choice < 0.6 and self.actors:
            self._call()
        elif choice < 0.68 and self.actors:
            self._call_often()
        elif choice < 0.75:
            self._put()
        elif choice < 0.77:
            self._stream()
        elif choice < 0.8:
            self._burst()
        elif choice < 0.9:
            self._drop_one()
        elif choice < 0.95:
            self._cancel()
        elif choice < 0.97 and self.actors:
            actor = self.rng.choice(self.actors)
            self._ends(actor)
            self.submitter.kill(actor.ident)

    def _ends(self, actor: ActorSim) -> None:
        """The actor's end has begun: calls that it has not answered may fail."""
        actor.killed = True
        for expect in self.expected.values():
            expect.may_fail |= expect.actor is actor

    def _number(self) -> int:
        self._numbers[0] += 1
        return self._numbers[0]

    def _program(self, depth: int = 0) -> tuple[Program, int]:
        total = number = self._number()
        children: list[Program] = []
        if depth < 2 and self.rng.random() < 0.3:
            for _ in range(self.rng.randint(1, 3)):
                child, value = self._program(depth + 1)
                children.append(child)
                total += value
        return Program(number, self.rng.choice([0.0001, 0.003, 0.05]), children), total

    def _some(self, chance: float) -> list[bytes]:
        if self.expected and self.rng.random() < chance:
            return self.rng.sample(list(self.expected), min(len(self.expected), self.rng.randint(1, 2)))
        return []

    def _expect(self, ident: bytes, expect: Expect) -> None:
        self.expected[ident] = expect
        self.tasks += 1

        def ended() -> None:
            self.done.add(ident)
            self.glances.glance(ident)

        self.submitter.when_all([ident], ended)

    def _submit(self) -> None:
        program, total = self._program()
        kind = self.rng.random()
        if not program.children and kind < (0.7 if self.world.small else 0.2):
            program.large = True
            program.number = total = 200_000 + program.number
        elif kind < 0.35:
            program.returns_refs = self.rng.randint(1, 3)
        elif kind < 0.7:
            program.padding = PADDING
        if kind > 0.85:
            self._gather(program)
            return
        refs, holds = self._some(0.7 if self.world.small else 0.3), self._some(0.3)
        read = list(refs)
        if holds:
            program.borrow = self.rng.choice(["", "read", "deep"])
            if program.borrow:
                read += holds
        deps = [self.expected[ident] for ident in read]
        total += sum(one.total for one in deps)
        if program.borrow == "deep":
            inner = [one for ident in holds for one in self.expected[ident].inner]
            deps = deps + inner
            total += sum(one.total for one in inner)
        expect = Expect(total, False, deps)
        program.spent = self.rng.random() < 0.15
        # What is inside belongs to the worker that made it, and is lost if that is killed.
        expect.inner = [Expect(total, deps=[expect], kept_in=self.world)] * program.returns_refs
        self._expect(self.submitter.submit(program, refs, holds=holds), expect)

    def _gather(self, program: Program) -> None:
        """A task whose arguments do not fit into its message, or have to be in memory together."""
        large = self.rng.random() < 0.5
        if program.large:
            program.large = False
            program.number -= 200_000
        total = program.number
        parts = []
        for _ in range(FEW if large else MANY):
            number = self._number()
            part = Program(200_000 + number, large=True) if large else Program(number, padding=PADDING)
            parts.append(self.submitter.submit(part, []))
            self._expect(parts[-1], Expect(part.number))
            total += part.number
        program.children = []
        self._expect(self.submitter.submit(program, parts), Expect(total, False, [self.expected[p] for p in parts]))

    def _burst(self) -> None:
        """Many short tasks, queued behind one another at their workers. Some wait for one that comes behind them: it
        is submitted before, and begins late because of its argument."""
        slow = Program(self._number(), 0.02)
        first = self.submitter.submit(slow, [])
        self._expect(first, Expect(slow.number))
        late = Program(self._number(), SHORT_S)
        awaited = self.submitter.submit(late, [first])
        self._expect(awaited, Expect(late.number + slow.number, False, [self.expected[first]]))
        for _ in range(self.rng.choice([4, 20])):
            program = Program(self._number(), SHORT_S, spent=self.rng.random() < 0.1)
            waits = self.rng.random() < 0.3
            if waits:
                program.borrow = "read"
            deps = [self.expected[awaited]] if waits else []
            expect = Expect(program.number + sum(one.total for one in deps), False, deps)
            retries = self.rng.choice([-1, 0])
            if not retries:
                expect.kept_in = self.world
            holds = [awaited] if waits else []
            self._expect(self.submitter.submit(program, [], retries, holds=holds), expect)

    def _put(self) -> None:
        inner = self._some(0.8)
        expect = Expect(self._number(), inner=[self.expected[ident] for ident in inner])
        ident = self.submitter.put(expect.total, inner)
        self.expected[ident] = expect
        self.done.add(ident)

    def _call(self) -> None:
        """Call an actor; sometimes several times, each with the value of the one before as an argument."""
        actor = self.rng.choice(self.actors)
        earlier = [ident for ident, expect in self.expected.items() if expect.actor is actor]
        refs = self._some(0.2)
        if earlier and self.rng.random() < 0.5:
            refs = list(dict.fromkeys([*refs, self.rng.choice(earlier)]))
        for _ in range(self.rng.choice([1, 1, 2, 4])):
            ident = self._call_once(actor, refs)
            refs = [ident] if self.rng.random() < 0.8 else []

    def _call_once(self, actor: ActorSim, refs: list[bytes]) -> bytes:
        program = Program(
            self._number(), self.rng.choice([0.0001, 0.002]), flaky=actor.immortal and self.rng.random() < 0.2
        )
        program.fails = self.rng.random() < 0.1
        if self.rng.random() < 0.2:
            program.large = True
            program.number += 200_000
        holds = self._some(0.4)
        if holds:
            program.borrow = self.rng.choice(["keep", "read", ""])
            if any(one.actor is actor for ident in holds for one in self.expected[ident].origins()):
                program.borrow = "keep"  # a call that is tried again may come behind one that waits for it
        else:
            program.borrow = self.rng.choice(["forget", "recall", "recall", ""])
        program.exits = not actor.immortal and self.rng.random() < (0.3 if program.borrow == "keep" else 0.04)
        if program.exits:
            self._ends(actor)
        retries = -1 if actor.immortal else 0
        deps = [self.expected[ident] for ident in [*refs, *(holds if program.borrow == "read" else ())]]
        total = program.number + sum(one.total for one in deps)
        deps += actor.deps
        expect = Expect(total, program.fails or actor.may_fail(self.world.small), deps, actor=actor)
        if any(one.actor is actor for dep in deps for one in dep.origins()):
            expect.behind_in = self.world
        group = "group" if self.rng.random() < 0.15 else ""
        given = []
        if program.borrow == "keep":  # what nobody else holds is freed when the actor lets go of it, and not before
            given = [self.submitter.put(self._number(), [])]
        call = self.submitter.call(actor.ident, program, retries, [*holds, *given], refs, group)
        self.submitter.drop(given)
        self._expect(call, expect)
        return call

    def _call_often(self) -> None:
        """Many calls of one actor, one right after the other, whose arguments refer to nothing: they travel as runs."""
        actor = self.rng.choice(self.actors)
        calls: list[tuple[bytes, Expect]] = []
        odd = self.rng.choice([0.0, self.rng.random() * 0.3])
        quick = self.rng.random() < 0.5
        for _ in range(self.rng.choice([2, 5, 12, 150])):
            program = Program(self._number(), 0.00002 if quick else self.rng.choice([0.0001, 0.002]))
            if self.rng.random() < odd:
                program.fails = self.rng.random() < 0.4
                program.flaky = actor.immortal and self.rng.random() < 0.3
                program.large = self.rng.random() < 0.2
                program.number += 200_000 * program.large
                program.borrow = "forget"
            may_fail = program.fails or actor.may_fail(self.world.small)
            expect = Expect(program.number, may_fail, [*actor.deps], actor=actor)
            calls.append((self.submitter.call(actor.ident, program, -1 if actor.immortal else 0), expect))
        for ident, expect in calls:
            self._expect(ident, expect)
        for ident, expect in calls if self.rng.random() < 0.3 else ():
            if self.rng.random() < 0.1:
                expect.may_fail = True
                self.submitter.cancel(ident)

    def _stream(self) -> None:
        program = Program(self._number() * 1000, 0.001, items=self.rng.randint(1, 6), large=self.rng.random() < 0.3)
        task = self.submitter.submit(program, [])
        self.streams[task] = False
        self.tasks += 1
        stop_at = self.rng.choice([0, 2, 100])

        def taken(index: int, value: object) -> None:
            if not self.process.alive:
                return
            if value is None or index == stop_at:
                if value is None and index != program.items:
                    self.world.broken.append(f"a generator of {program.items} items ended after {index}")
                self.submitter.drop([task])
                del self.streams[task]
                return
            if value != program.number + index and not (self.world.small and value == "ObjectStoreFullError"):
                self.world.broken.append(f"item {index} is {value!r}, not {program.number + index}")
            self.submitter.take(task, index + 1, lambda value: taken(index + 1, value))

        self.submitter.take(task, 0, lambda value: taken(0, value))

    def _cancel(self) -> None:
        open_ones = [i for i in self.expected if i not in self.done]
        if open_ones:
            ident = self.rng.choice(open_ones)
            self.expected[ident].may_fail = True
            self.submitter.cancel(ident)

    def _drop_one(self) -> None:
        finished = [i for i in self.expected if i in self.done and self.submitter.has_value(i)]
        if finished:
            ident = self.rng.choice(finished)
            self.check(ident)
            del self.expected[ident]
            self.submitter.drop([ident])

    # -------------------------------------------------------------- checks

    def check(self, ident: bytes) -> None:
        """The object has the value that it must have."""
        expect, value = self.expected[ident], self.submitter.result(ident)
        if self.world.small and value == "ObjectStoreFullError":
            return  # parents that read and wait may hold up their children, and values grow with what they are made of
        if value != expect.total and not (isinstance(value, str) and expect.excused()):
            self.world.broken.append(f"object {ident.hex()[24:]} is {value!r}, not {expect.total}")

    def _ended_for_nothing(self, actor: bytes) -> bool:
        """Whether an actor has ended although each process in which it began lives, and all nodes do."""
        if self.submitter.lives(actor) or self.world.nodes_died():
            return False
        return all(process.alive for process in self.world.hosts[actor])

    def all_there(self) -> bool:
        """Whether all values are there: a lost one may be being computed again."""
        there = self.submitter.has_value
        return not self.streams and all(i in self.done and there(i) for i in self.expected)

    def finish(self) -> None:
        """Check everything that is left and let go of it."""
        for ident in self.expected:
            self.check(ident)
        for actor in self.actors:
            if actor.excused() or (actor.deps and self.world.small):
                continue
            if actor.immortal and not actor.killed and not self.submitter.lives(actor.ident):
                self.world.broken.append(f"actor {actor.ident.hex()[24:]} has ended although its handle is held")
            elif not actor.killed and self._ended_for_nothing(actor.ident):
                self.world.broken.append(f"actor {actor.ident.hex()[24:]} has ended, and no worker that had begun it")
        self.submitter.drop([*self.expected, *(actor.ident for actor in self.actors)])
        self.expected.clear()
        self.actors.clear()

"""What a simulated worker does for a task, call or constructor: reads its arguments, waits, submits, and gives a value.

It is user code, and what the shell of a worker does on its behalf, in virtual time: one step leads to the next.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from hpc.core.ids import Address
from hpc.core.owner.pins import Pin
from hpc.core.owner.streams import item_id
from hpc.core.owner.tables import Entry, Waiter
from hpc.core.process.context import TaskContext
from hpc.core.sim import paths
from hpc.core.sim.processes import Process
from hpc.core.sim.programs import Program, Submitter, packed, value_of
from hpc.core.sim.reading import Failed, Reader
from hpc.core.sim.world import World
from hpc.core.wire import (
    AT_OWNER,
    ERROR,
    INLINE,
    STORED,
    SYSTEM,
    Alloc,
    Allocated,
    Call,
    CreateActor,
    Result,
    Task,
    Yielded,
    system_error,
)
from hpc.core.worker.loop import Loop

CANCELLED = system_error("TaskCancelledError", "while it ran")
#: How often a worker is lost between the writing of a value and the word of it.
UNTOLD = 0.02
EXITED = system_error("ActorDiedError", "it called exit_actor()")


@dataclass(slots=True, eq=False)
class Job:
    """A task, call or constructor while it runs. ``met`` are the references found in its arguments, ``values`` what it
    read, ``views`` the memory that it reads."""

    src: Address
    msg: Task | Call | CreateActor
    program: Program
    met: list[bytes]
    context: TaskContext
    began: float
    values: list[Any] = field(default_factory=list)
    views: list[Pin] = field(default_factory=list)
    inner: list[bytes] = field(default_factory=list)
    arguments: dict[bytes, Result] = field(default_factory=dict)
    kept: bool = False


class Steps:
    """The steps of one process. ``finish`` is called with a job that has ended, and its results."""

    def __init__(self, world: World, process: Process, loop: Loop, finish: Callable[[Job, list[Result]], None]) -> None:
        self.world, self.process, self.loop, self.finish = world, process, loop, finish
        #: References that the actor keeps, and the process that gave each.
        self.state: list[bytes] = []
        self.givers: dict[bytes, Process] = {}
        self.submitter = Submitter(world, process)
        self.reader = Reader(world, process)
        #: Memory that an actor goes on reading after the call that was given it.
        self.state_views: list[Pin] = []
        #: What goes on when the raylet has answered a question about memory, by its number.
        self.asked: dict[int, Any] = {}
        self._questions = 0

    def begin(self, job: Job) -> None:
        """Begin with a job, whose arguments came with its message."""
        self._admit(job, dict(zip(job.msg.refs, job.msg.values)))

    def end(self, job: Job) -> None:
        """Let go of what a job had."""
        self._release(job)
        if not job.kept:
            self.submitter.drop(job.met)
        self.process.machine.objects.drain_dropped()

    # -------------------------------------------------------------- memory

    def _ask(self, build: Any, then: Any) -> None:
        """A question about memory to the raylet; ``then`` is called with the answer."""
        self._questions += 1
        self.asked[self._questions] = then
        self.process.machine.send(self.process.machine.raylet, build(self._questions))
        self.world.flush(self.process, everything=True)

    def _admit(self, job: Job, results: dict[bytes, Result]) -> None:
        """What the task reads stays in memory until it ends. What is lost is made anew first, and what had no room in
        the task's message is asked for."""
        away = [ident for ident, result in results.items() if result.kind == AT_OWNER]
        if away:
            self._ask_owners(job, results, away)
            return
        job.arguments = results
        stored = {ident: result for ident, result in results.items() if result.kind == STORED}
        if len(stored) < 2:
            self._load(job, list(stored), [])
            return

        def admitted(pins: list[Pin]) -> None:
            self._load(job, list(stored), pins)

        self.reader.admit(stored, admitted, lambda bad, failed: self._without(job, bad, failed))
        if self.world.rng.random() < 0.3:  # another thread of the user's code wants one of them too
            self.process.machine.pins.bring([next(iter(stored.items()))])
            self.world.flush(self.process)

    def _load(self, job: Job, idents: list[bytes], admitted: list[Pin]) -> None:
        """View the stored arguments one after the other, which are pinned already if they were admitted."""
        if not idents:
            self.process.machine.pins.unviewed.extend(admitted)
            self.world.clock.after(job.program.run_s, lambda: self._borrow(job))
            return
        ident = idents[0]

        def viewed(pin: Pin) -> None:
            job.views.append(pin)
            self._load(job, idents[1:], admitted)

        def not_there(bad: bytes, failed: Failed) -> None:
            self.process.machine.pins.unviewed.extend(admitted)
            self._without(job, bad, failed)

        self.reader.view(ident, job.arguments[ident], viewed, not_there)

    def _without(self, job: Job, ident: bytes, failed: Failed) -> None:
        """An argument is not here: the task fails, or the argument is made anew and the task begins again."""
        if failed.cause == "no_room":
            self.finish(job, [system_error("ObjectStoreFullError", failed.why)])
            return
        self._release(job)

        def made_anew() -> None:
            result = self.process.machine.state.entries[ident].result
            assert result is not None
            self.submitter.drop([ident])
            if result.kind == STORED:
                self._admit(job, {**job.arguments, ident: result})
            else:
                self.finish(job, [result if result.kind == SYSTEM else Result(ERROR, b"failed")])

        self.process.machine.objects.hold(ident)
        error = self.process.machine.lineage.copies_lost(ident, failed.lost)
        if error is None:
            self._wait([ident], made_anew)
        else:
            self.submitter.drop([ident])
            self.finish(job, [error])

    def _release(self, job: Job) -> None:
        """The views of a task end."""
        self.process.machine.pins.unviewed.extend(job.views)
        job.views.clear()

    def _ask_owners(self, job: Job, results: dict[bytes, Result], away: list[bytes]) -> None:
        machine = self.process.machine
        entries = [machine.objects.hold(ident) for ident in away]

        def there() -> None:
            if not self.process.alive:
                return
            lost = [entry.ident for entry in entries if entry.result is None]
            if lost:
                self.submitter.when_all(lost, there)
                return
            told = {entry.ident: entry.result for entry in entries if entry.result is not None}
            self.submitter.drop(away)
            failed = [result for result in told.values() if result.kind in (ERROR, SYSTEM)]
            if failed:
                self.finish(job, [failed[0] if failed[0].kind == SYSTEM else Result(ERROR, b"failed")])
            else:
                self._admit(job, {**results, **told})

        self.submitter.when_all(away, there)

    def _store(self, ident: bytes, size: int, then: Any) -> None:
        """Put a value into the arena as `size` bytes, then call ``then`` with the result."""
        size = max(1, size)

        pins = self.process.machine.pins

        def allocated(answer: Allocated) -> None:
            if answer.offset < 0:
                then(system_error("ObjectStoreFullError", answer.why))
            else:
                write(answer.offset)

        def write(offset: int) -> None:
            pins.sealed(ident, offset, size, keep=False)
            if self.world.strikes(paths.LOST_UNTOLD, UNTOLD):
                self.world.flush(self.process, everything=True)
                self.world.kill_process(self.process)
                return
            then(Result(STORED, b"", size, (self.process.addr.node,)))

        offset = pins.span.place(size)
        if offset < 0:
            ahead = pins.ahead(size)
            self._ask(lambda req: Alloc(req, size, ident, ahead), allocated)
        else:
            self.world.paths[paths.IN_SPAN] += 1
            write(offset)

    # -------------------------------------------------------------- steps of a task

    def _wait(self, idents: list[bytes], then: Any) -> None:
        """What get does in a worker: lend the CPU, give back what is queued here, wait."""
        machine = self.process.machine
        if any(isinstance(msg, Task) for _, msg in self.loop.ready):
            self.world.paths[paths.BEFORE_WAIT] += 1
        self.loop.begin_wait(lend=True)
        self.world.flush(self.process, everything=True)

        def resume() -> None:
            if not self.process.alive:
                return
            if any(machine.state.entries[i].result is None for i in idents):  # lost again meanwhile
                self.submitter.when_all(idents, resume)
                return
            self.loop.end_wait()
            self.world.flush(self.process)
            then()

        self.submitter.when_all(idents, resume)

    def _recall(self) -> None:
        """Look at the references that the actor keeps, and go on meanwhile: what they refer to must not be freed."""
        if not self.process.alive:
            return
        for ident in dict.fromkeys(self.state):
            entry, giver = self.process.machine.state.entries[ident], self.givers[ident]

            def look(entry: Entry = entry, giver: Process = giver) -> None:
                self.world.paths[paths.RECALLED] += 1
                lost = entry.result is not None and value_of(entry.result) == "ObjectLostError"
                if lost and giver.alive and self.process.alive:
                    self.world.broken.append(f"object {entry.ident.hex()[24:]} was freed although an actor keeps it")

            if entry.result is not None:
                look()
            else:
                self.process.machine.objects.await_value(entry, Waiter(1, look))
        self.world.flush(self.process)

    def _borrow(self, job: Job) -> None:
        """Do with the nested references what the program says."""
        if not self.process.alive:
            return
        machine, what = self.process.machine, job.program.borrow
        if what == "forget":
            self.submitter.drop(self.state)
            self.state = []
            self.givers.clear()
            machine.pins.unviewed.extend(self.state_views)
            self.state_views = []
        elif what == "keep":
            self.state += job.met
            giver = self.world.process_at(job.src)
            self.givers.update((ident, giver) for ident in job.met)
            job.kept = True
            self.world.clock.after(self.world.rng.random() * 0.05, self._recall)
            self.state_views += job.views
            job.views = []
        elif what == "recall":
            self._recall()
        if what not in ("read", "deep") or not job.met:
            self._children(job)
            return

        def read() -> None:
            self._get(job, job.met, unpacked)

        def unpacked() -> None:
            inner: list[bytes] = []
            for outer in job.met:
                result = machine.state.entries[outer].result
                if result is None:  # lost again meanwhile
                    self._wait(job.met, read)
                    return
            for outer in job.met:
                result = machine.state.entries[outer].result
                assert result is not None
                job.values.append(value_of(result))
                for ident in result.inner if what == "deep" else ():
                    machine.objects.hold(ident)
                    machine.objects.hold_until_acked(ident, outer)
                    inner.append(ident)
            self.world.flush(self.process)
            if not inner:
                self._children(job)
                return
            job.inner = inner
            self._wait(inner, deeper)

        def deeper() -> None:
            for ident in job.inner:
                result = machine.state.entries[ident].result
                assert result is not None
                job.values.append(value_of(result))
            self._children(job)

        self._wait(job.met, read)

    def _get(self, job: Job, idents: list[bytes], then: Any) -> None:
        """View the stored ones among objects that have values, as `get` does; what is lost is made anew first."""
        machine = self.process.machine
        if not idents:
            then()
            return
        ident = idents[0]
        result = machine.state.entries[ident].result
        if result is None:
            self._wait([ident], lambda: self._get(job, idents, then))
            return

        def viewed(pin: Pin) -> None:
            job.views.append(pin)
            self._get(job, idents[1:], then)

        def not_there(bad: bytes, failed: Failed) -> None:
            if failed.cause == "no_room":
                job.values.append("ObjectStoreFullError")
                self._get(job, idents[1:], then)
            else:
                machine.lineage.copies_lost(bad, failed.lost)
                self._get(job, idents, then)

        if result.kind == STORED:
            self.reader.view(ident, result, viewed, not_there)
        else:
            self._get(job, idents[1:], then)

    def _children(self, job: Job) -> None:
        if not self.process.alive:
            return
        program = job.program
        if program.items:
            self._yield(job, 0)
            return
        if not program.children:
            self._compute(job, [])
            return
        depth = getattr(job.msg, "depth", 0) + 1
        parent = job.context.task
        refs = [self.submitter.submit(child, [], depth=depth, parent=parent) for child in program.children]
        self._wait(refs, lambda: self._compute(job, refs))

    def _yield(self, job: Job, index: int) -> None:
        if not self.process.alive:
            return
        msg, machine, context = job.msg, self.process.machine, job.context
        assert not isinstance(msg, CreateActor)
        if index == job.program.items:
            self.finish(job, [Result(INLINE, msgspec.msgpack.encode(None))])
            return
        if msg.window and index - context.consumed >= msg.window:
            taken = Waiter(0, lambda: self._yield(job, index))
            context.on_consumed = lambda: self._taken(context, taken)
            return
        value = job.program.number + index

        def there(result: Result) -> None:
            machine.send(job.src, Yielded(msg.task, msg.attempt, index, result))
            self.world.flush(self.process)
            self.world.clock.after(self.world.rng.random() * 0.002, lambda: self._yield(job, index + 1))

        if job.program.large:
            self._store(item_id(msg.task, index), value, there)
        else:
            there(Result(INLINE, msgspec.msgpack.encode(value)))

    def _taken(self, context: TaskContext, waiter: Waiter) -> None:
        context.on_consumed = None
        self.process.machine.woken.append(waiter)

    def _compute(self, job: Job, refs: list[bytes]) -> None:
        if not self.process.alive:
            return
        machine, program, msg, context = self.process.machine, job.program, job.msg, job.context
        value: Any = program.number
        own = [value_of(result) for r in refs if (result := machine.state.entries[r].result) is not None]
        given = [value_of(job.arguments[ident]) for ident in msg.refs]
        for one in [*own, *job.values, *given]:
            value = value if isinstance(value, str) else value + one if isinstance(one, int) else one
        self.submitter.drop(refs)
        self.submitter.drop(job.inner)
        results: list[Result]
        if context.cancelled:
            results = [CANCELLED]
        elif program.exits and isinstance(msg, Call):
            self.world.paths[paths.EXITED] += 1
            self.loop.end_actor(msg.actor, "exit")
            results = [EXITED]
        elif value == "ObjectStoreFullError":
            results = [system_error(value, "one that it needed had no room")]
        elif program.fails or (program.flaky and not context.attempt) or not isinstance(value, int):
            results = [Result(ERROR, b"failed")]
        elif program.returns_refs:
            inner = [machine.objects.put_inline(msgspec.msgpack.encode(value), []) for _ in range(program.returns_refs)]
            machine.objects.hand_over(context.task, context.attempt, job.src, inner)
            self.submitter.drop(inner)
            results = [Result(INLINE, msgspec.msgpack.encode(value), inner=tuple(inner))]
        elif program.large:
            self._store(context.task, value, lambda result: self.finish(job, [result]))
            return
        else:
            results = [Result(INLINE, packed(value, program.padding))]
        self.finish(job, results)

"""The simulated worker: it runs the programs of tasks and actors in virtual time, as the shell of a worker does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from hpc.core.ids import Address
from hpc.core.owner.pins import Pin
from hpc.core.owner.streams import item_id
from hpc.core.sim.programs import Program, Submitter, packed, value_of
from hpc.core.sim.reading import Failed, Reader
from hpc.core.sim.runs import answered_in_run, next_item, next_of_run
from hpc.core.sim.world import Process, World
from hpc.core.wire import (
    AT_OWNER,
    ERROR,
    INLINE,
    STORED,
    SYSTEM,
    Alloc,
    Allocated,
    Blocked,
    Call,
    Cleared,
    Consumed,
    CreateActor,
    Done,
    EndActor,
    Message,
    Result,
    Retire,
    Task,
    Unblocked,
    Yielded,
    system_error,
)
from hpc.core.worker.executor import Executor


@dataclass(slots=True)
class Job:
    """A task or call while it runs: ``met`` are the references found in its arguments, ``values`` what it read,
    ``views`` the memory that it reads."""

    src: Address
    msg: Task | Call
    program: Program
    met: list[bytes]
    values: list[Any] = field(default_factory=list)
    views: list[Pin] = field(default_factory=list)
    inner: list[bytes] = field(default_factory=list)
    arguments: dict[bytes, Result] = field(default_factory=dict)
    kept: bool = False


class WorkerSim:
    """A worker's shell in virtual time."""

    def __init__(self, world: World, process: Process) -> None:
        self.world = world
        self.process = process
        self.executor = Executor()
        self.busy: Task | Call | CreateActor | None = None
        self.actor = b""
        self.blocked = self.retiring = False
        self.seen: dict[Address, int] = {}
        self.state: list[bytes] = []
        self.consumed: dict[bytes, int] = {}
        self.on_consumed: dict[bytes, Any] = {}
        self.submitter = Submitter(world, process)
        self.reader = Reader(world, process)
        #: Memory that an actor goes on reading after the call that was given it.
        self.state_views: list[Pin] = []
        #: What goes on when the raylet has answered a question about memory, by its number.
        self.asked: dict[int, Any] = {}
        self._questions = 0
        process.on_message, process.published = self.on_message, self.published

    def on_message(self, src: Address, msg: Message) -> None:
        """A message that is not for the owner's machine."""
        if isinstance(msg, Allocated):
            self.asked.pop(msg.req)(msg)
        elif isinstance(msg, Consumed):
            self.consumed[msg.task] = max(self.consumed.get(msg.task, 0), msg.count)
            go_on = self.on_consumed.pop(msg.task, None)
            if go_on is not None:
                go_on()
        elif isinstance(msg, Retire):
            self.process.machine.send(src, Cleared())
            self._retire()
        elif self.executor.handle(src, msg):
            for where, item in self.executor.cancelled:
                if isinstance(item, (Task, Call)):  # one that runs goes on: nothing here can be interrupted
                    error = system_error("TaskCancelledError", "before it started")
                    self.process.machine.send(where, Done(item.task, item.attempt, [error]))
            self.executor.cancelled.clear()
            if self.blocked:
                self._give_back()
            for dst, reply in self.executor.replies:
                self.process.machine.send(dst, reply)
            self.executor.replies.clear()
            self.next()

    def published(self) -> tuple[bytes, int]:
        """What the worker's slot says that it runs."""
        busy = self.busy
        if self.actor or not isinstance(busy, Task):
            return self.actor, 0
        return busy.task, busy.attempt

    def _retire(self) -> None:
        """End once nobody needs this process, as the shell does: it looks from time to time."""
        if not self.retiring:
            self.retiring = True
            self._end_if_free()

    def _end_if_free(self) -> None:
        if not self.process.alive:
            return
        self.process.machine.objects.drain_dropped()
        if self.busy is None and not self.executor.ready and not self.process.machine.is_needed():
            self.world.flush(self.process, everything=True)
            self.world.kill_process(self.process, "exit")
        else:
            self.world.clock.after(0.05, self._end_if_free)

    def next(self) -> None:
        """Begin the next item if idle."""
        if self.busy is not None or not self.process.alive:
            return
        item = next_of_run(self.executor) or next_item(self.executor)
        if item is None:
            self.world.flush(self.process, everything=True)
            return
        src, msg = item
        if isinstance(msg, EndActor):
            proc = self.world.nodes[self.process.addr.node].machine.leasing.procs[self.process.addr.proc]
            proc.exit_cause, proc.exit_why = "exit", "ended"
            self.world.kill_process(self.process, "exit")
            return
        self.busy = msg
        if isinstance(msg, CreateActor):
            self.busy = None
            self.actor = msg.actor
            self.world.hosts[msg.actor].append(self.process)
            done = Done(msg.actor, msg.incarnation, [Result(INLINE, msgspec.msgpack.encode(None))], 500)
            self.process.machine.send(src, done)
            self.world.flush(self.process, everything=True)
            self.next()
            return
        if isinstance(msg, Call):
            if 0 <= msg.seq <= self.seen.get(src, -1):
                self.world.broken.append(f"call {msg.seq} of {src} ran after {self.seen[src]}")
            self.seen[src] = max(msg.seq, self.seen.get(src, -1))
        program = msgspec.msgpack.decode(msg.args, type=Program)
        met = list(msg.holds)
        for ident in met:  # what unpickling the arguments does
            self.process.machine.objects.hold(ident)
        self.world.flush(self.process)
        job = Job(src, msg, program, met)
        self._admit(job, dict(zip(msg.refs, msg.values)))

    # -------------------------------------------------------------- memory

    def _ask(self, build: Any, then: Any) -> None:
        """A question about memory to the raylet; ``then`` is called with the answer."""
        self._questions += 1
        self.asked[self._questions] = then
        self.process.machine.send(self.process.machine.raylet, build(self._questions))
        self.world.flush(self.process, everything=True)

    def _admit(self, job: Job, results: dict[bytes, Result]) -> None:
        """What the task reads stays in memory until it ends; what is lost is made anew first, and what had no room in
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
            self._finish(job, [system_error("ObjectStoreFullError", failed.why)])
            return
        self._release(job)

        def made_anew() -> None:
            result = self.process.machine.state.entries[ident].result
            assert result is not None
            self.submitter.drop([ident])
            if result.kind == STORED:
                self._admit(job, {**job.arguments, ident: result})
            else:
                self._finish(job, [result if result.kind == SYSTEM else Result(ERROR, b"failed")])

        self.process.machine.objects.hold(ident)
        self.process.machine.objects.copies_lost(ident, failed.lost)
        self._wait([ident], made_anew)

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
                self._finish(job, [failed[0] if failed[0].kind == SYSTEM else Result(ERROR, b"failed")])
            else:
                self._admit(job, {**results, **told})

        self.submitter.when_all(away, there)

    def _store(self, ident: bytes, size: int, then: Any) -> None:
        """Put a value into the arena as `size` bytes, then call ``then`` with the result."""
        size = max(1, size)

        def allocated(answer: Allocated) -> None:
            if answer.offset < 0:
                then(system_error("ObjectStoreFullError", answer.why))
                return
            self.process.machine.pins.sealed(ident, answer.offset, size, keep=False)
            then(Result(STORED, b"", size, (self.process.addr.node,)))

        self._ask(lambda req: Alloc(req, size, ident), allocated)

    # -------------------------------------------------------------- steps of a task

    def _wait(self, idents: list[bytes], then: Any) -> None:
        """What get does in a worker: lend the CPU, give back what is queued here, wait."""
        machine = self.process.machine
        self.blocked = True
        self._give_back()
        machine.send(machine.raylet, Blocked())
        self.world.flush(self.process, everything=True)

        def resume() -> None:
            if not self.process.alive:
                return
            if any(machine.state.entries[i].result is None for i in idents):  # lost again meanwhile
                self.submitter.when_all(idents, resume)
                return
            machine.send(machine.raylet, Unblocked())
            self.blocked = False
            then()

        self.submitter.when_all(idents, resume)

    def _give_back(self) -> None:
        for dst, back in self.executor.give_back():
            self.process.machine.send(dst, back)

    def _borrow(self, job: Job) -> None:
        """Do with the nested references what the program says."""
        if not self.process.alive:
            return
        machine, what = self.process.machine, job.program.borrow
        if what == "forget":
            self.submitter.drop(self.state)
            self.state = []
            machine.pins.unviewed.extend(self.state_views)
            self.state_views = []
        elif what == "keep":
            self.state += job.met
            job.kept = True
            self.state_views += job.views
            job.views = []
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
                machine.objects.copies_lost(bad, failed.lost)
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
        refs = [self.submitter.submit(child, [], depth=depth) for child in program.children]
        self._wait(refs, lambda: self._compute(job, refs))

    def _yield(self, job: Job, index: int) -> None:
        if not self.process.alive:
            return
        msg, machine = job.msg, self.process.machine
        if index == job.program.items:
            self._finish(job, [Result(INLINE, msgspec.msgpack.encode(None))])
            return
        if msg.window and index - self.consumed.get(msg.task, 0) >= msg.window:
            self.on_consumed[msg.task] = lambda: self._yield(job, index)
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

    def _compute(self, job: Job, refs: list[bytes]) -> None:
        if not self.process.alive:
            return
        machine, program, msg = self.process.machine, job.program, job.msg
        value: Any = program.number
        own = [value_of(result) for r in refs if (result := machine.state.entries[r].result) is not None]
        given = [value_of(job.arguments[ident]) for ident in msg.refs]
        for one in [*own, *job.values, *given]:
            value = value if isinstance(value, str) else value + one if isinstance(one, int) else one
        self.submitter.drop(refs)
        self.submitter.drop(job.inner)
        results: list[Result]
        if value == "ObjectStoreFullError":
            results = [system_error(value, "one that it needed had no room")]
        elif program.fails or (program.flaky and not msg.attempt) or not isinstance(value, int):
            results = [Result(ERROR, b"failed")]
        elif program.returns_refs:
            inner = [machine.objects.put_inline(msgspec.msgpack.encode(value), []) for _ in range(program.returns_refs)]
            machine.objects.hand_over(msg.task, msg.attempt, job.src, inner)
            self.submitter.drop(inner)
            results = [Result(INLINE, msgspec.msgpack.encode(value), inner=tuple(inner))]
        elif program.large:
            self._store(msg.task, value, lambda result: self._finish(job, [result]))
            return
        else:
            results = [Result(INLINE, packed(value, program.padding))]
        self._finish(job, results)

    def _finish(self, job: Job, results: list[Result]) -> None:
        """Reply as the real worker does: not before the owners of what is still held here know of this node."""
        self.busy = None
        machine, msg = self.process.machine, job.msg
        self._release(job)
        if not job.kept:
            self.submitter.drop(job.met)
        machine.objects.drain_dropped()
        again = job.program.flaky and not msg.attempt
        done = Done(msg.task, msg.attempt, results, 500, again, exiting=job.program.spent)
        in_run = answered_in_run(self.executor, machine, job.src, done)
        if not in_run:
            machine.objects.when_acked(job.met, lambda: machine.send(job.src, done))
        if not in_run or self.world.rng.random() < 0.3:  # else with the next one's answer
            self.world.flush(self.process, everything=True)
        if job.program.spent:
            self.executor.close()
            self._retire()
        self.next()

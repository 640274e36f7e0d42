"""What the simulated tasks and actors do: programs as data, and the worker that runs them in virtual time.

A task's program says how long it runs, what it returns, which tasks it submits and waits for itself, and what it
does with the references among its arguments. Values are numbers that can be checked: a task's value is its own number
plus those of its arguments, of what it read, and of its children.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from hpc.core.ids import Address
from hpc.core.owner.streams import END, item_id
from hpc.core.owner.tables import CallKind, Shape, Waiter
from hpc.core.passing import names_and_failure
from hpc.core.resources import UNIT
from hpc.core.sim.runs import answered_in_run, next_item, next_of_run
from hpc.core.sim.world import Process, World
from hpc.core.wire import (
    AT_OWNER,
    ERROR,
    INLINE,
    STORED,
    STREAM_IDS,
    STREAMING,
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
    FetchAll,
    FetchedAll,
    Message,
    PleaseUnpin,
    Result,
    Retire,
    Seal,
    Task,
    Unblocked,
    Unpin,
    Yielded,
    system_error,
)
from hpc.core.worker.executor import Executor

FN = b"program"


class Program(msgspec.Struct):
    """One task or call."""

    number: int
    run_s: float = 0.001
    children: list[Program] = []
    returns_refs: int = 0
    large: bool = False
    fails: bool = False
    #: Its first attempt raises what is to be tried again.
    flaky: bool = False
    #: What it does with the references nested in its arguments: "" nothing, "read" get their values, "deep" those of
    #: the references inside them too, "keep" leave them in the actor's state, "forget" empty that.
    borrow: str = ""
    #: Its worker ends after it, as the last of `max_calls` does.
    spent: bool = False
    #: A generator of so many items, each its number in the series plus the program's number.
    items: int = 0
    #: Bytes that its value has beside the number, so that several do not fit into one message.
    padding: int = 0


def packed(value: Any, padding: int) -> bytes:
    """A value as it travels in a message."""
    return msgspec.msgpack.encode([value, bytes(padding)] if padding else value)


def value_of(result: Result) -> Any:
    """A result's value, or the name of its error."""
    if result.kind == SYSTEM:
        return msgspec.msgpack.decode(names_and_failure(result.data)[1])["type"]
    if result.kind == ERROR:
        return names_and_failure(result.data)[1].decode()
    if result.kind == STORED:
        return result.size
    value = msgspec.msgpack.decode(result.data)
    return value[0] if isinstance(value, list) else value


class Submitter:
    """Submits programs from a process and hands out what came of them."""

    def __init__(self, world: World, process: Process, cpus: float = 1.0) -> None:
        self.world = world
        self.process = process
        machine = process.machine
        machine.functions[FN] = b"code"
        held = {"CPU": int(cpus * UNIT)}
        self.shape = machine.add_shape(Shape(held, held, "DEFAULT", {}, False))
        self.actor_shape = machine.add_shape(Shape({}, held, "DEFAULT", {}, True))
        self._kinds: dict[tuple[bytes, int], CallKind] = {}

    def submit(
        self,
        program: Program,
        refs: list[bytes],
        retries: int = -1,
        depth: int = 0,
        holds: list[bytes] | None = None,
        shape: Shape | None = None,
    ) -> bytes:
        """Submit a task; the id of its value, held once. ``holds`` are references nested in its arguments."""
        machine = self.process.machine
        task = machine.new_ids(STREAM_IDS if program.items else 1)
        args = msgspec.msgpack.encode(program)
        count = STREAMING if program.items else 1
        window = program.items // 2 if program.number % 2 else 0
        msg = Task(
            task,
            0,
            FN,
            f"t{program.number}",
            args,
            count,
            (),
            tuple(refs),
            tuple(holds or ()),
            depth=depth,
            window=window,
        )
        machine.submit(msg, shape or self.shape, retries, False, holds or [])
        self.world.flush(self.process)
        return task

    def put(self, value: int, inner: list[bytes]) -> bytes:
        """An object with references inside; its id, held once."""
        return self.process.machine.put_inline(msgspec.msgpack.encode(value), inner)

    def cancel(self, ident: bytes) -> None:
        """Cancel the task that makes the object."""
        self.process.machine.cancel(ident, False, True)
        self.world.flush(self.process)

    def kill(self, actor: bytes) -> None:
        """End an actor by force."""
        self.process.machine.kill_actor(actor, True)
        self.world.flush(self.process)

    def take(self, task: bytes, index: int, then: Any) -> None:
        """Wait for an item of a generator, then call ``then`` with its value, or None at the end."""
        machine = self.process.machine
        ident = item_id(task, index)

        def there() -> None:
            result = machine.objects[ident].result
            if result is END:
                then(None)
                return
            assert result is not None
            machine.take_item(task)
            self.drop([ident])
            self.world.flush(self.process)
            then(value_of(result))

        self.when_all([ident], there)

    def create(self, restarts: int = 0, shape: Shape | None = None) -> bytes:
        """Create an actor; its id, held once."""
        machine = self.process.machine
        ident = machine.new_ids()
        machine.create_actor(CreateActor(ident, 0, FN, "actor", b"", {}), shape or self.actor_shape, restarts, [])
        self.world.flush(self.process)
        return ident

    def call(
        self,
        actor: bytes,
        program: Program,
        retries: int = 0,
        holds: list[bytes] | None = None,
        refs: list[bytes] | None = None,
    ) -> bytes:
        """Call an actor; the id of the value, held once. ``refs`` are its arguments, ``holds`` are nested in them."""
        machine = self.process.machine
        args = msgspec.msgpack.encode(program)
        if not refs and not holds:
            kind = self._kinds.setdefault((actor, retries), CallKind("run", retries, False))
            ident = machine.runs.add(kind, actor, args, b"")
            if ident is not None:
                if machine.urgent:
                    self.world.flush(self.process)
                return ident
        task = machine.new_ids()
        msg = Call(task, 0, actor, 0, 0, "run", args, 1, refs=tuple(refs or ()), holds=tuple(holds or ()))
        machine.submit_call(msg, retries, holds or [])
        self.world.flush(self.process)
        return task

    def when_all(self, idents: list[bytes], then: Any) -> None:
        """Call ``then`` once all have values."""
        machine = self.process.machine
        entries = [machine.objects[i] for i in dict.fromkeys(idents)]
        pending = [e for e in entries if e.result is None]
        if not pending:
            then()
            return
        waiter = Waiter(len(pending), then)
        for entry in pending:
            machine.await_value(entry, waiter)
        machine.ask_exactly()
        self.world.flush(self.process, everything=True)

    def has_value(self, ident: bytes) -> bool:
        """Whether the object has a value at the moment."""
        return self.process.machine.objects[ident].result is not None

    def result(self, ident: bytes) -> Any:
        """The value of an object that has one."""
        result = self.process.machine.objects[ident].result
        assert result is not None
        return value_of(result)

    def lives(self, actor: bytes) -> bool:
        """Whether an actor of this process's has not ended."""
        owned = self.process.machine.owned_actors.get(actor)
        return owned is not None and owned.state != "dead" and not owned.ending

    def drop(self, idents: list[bytes]) -> None:
        """Let go of one hold on each."""
        self.process.machine.dropped.extend(idents)


@dataclass(slots=True)
class Job:
    """A task or call while it runs: ``met`` are the references found in its arguments, ``values`` what it read."""

    src: Address
    msg: Task | Call
    program: Program
    met: list[bytes]
    values: list[Any] = field(default_factory=list)
    pinned: list[bytes] = field(default_factory=list)
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
        #: What goes on when the raylet has answered a question about memory, by its number.
        self.asked: dict[int, Any] = {}
        self._questions = 0
        process.on_message, process.published = self.on_message, self.published

    def on_message(self, src: Address, msg: Message) -> None:
        """A message that is not for the owner's machine."""
        if isinstance(msg, (Allocated, FetchedAll)):
            self.asked.pop(msg.req)(msg)
        elif isinstance(msg, PleaseUnpin):
            self.process.machine.send(self.process.machine.raylet, Unpin([]))
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
        self.process.machine.drain_dropped()
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
            self.process.machine.hold(ident)
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
        if not stored:
            self.world.clock.after(job.program.run_s, lambda: self._borrow(job))
            return
        machine = self.process.machine

        def admitted(answer: FetchedAll) -> None:
            if answer.cause == "no_room":
                self._finish(job, [system_error("ObjectStoreFullError", answer.why)])
            elif answer.cause:
                machine.hold(answer.bad)
                machine.copies_lost(answer.bad, answer.lost)
                self._wait([answer.bad], lambda: made_anew(answer.bad))
            else:
                job.pinned = answer.idents
                self.world.clock.after(job.program.run_s, lambda: self._borrow(job))

        def made_anew(ident: bytes) -> None:
            result = machine.objects[ident].result
            assert result is not None
            self.submitter.drop([ident])
            if result.kind == STORED:
                self._admit(job, {**results, ident: result})
            else:
                self._finish(job, [result if result.kind == SYSTEM else Result(ERROR, b"failed")])

        values = stored.values()
        sizes, nodes = [v.size for v in values], [list(v.nodes) for v in values]
        self._ask(lambda req: FetchAll(req, list(stored), sizes, nodes), admitted)

    def _ask_owners(self, job: Job, results: dict[bytes, Result], away: list[bytes]) -> None:
        machine = self.process.machine
        entries = [machine.hold(ident) for ident in away]

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
        raylet = self.process.machine.raylet

        def allocated(answer: Allocated) -> None:
            if answer.offset < 0:
                then(system_error("ObjectStoreFullError", answer.why))
                return
            self.process.machine.send(raylet, Seal(ident, answer.offset, size))
            self.process.machine.send(raylet, Unpin([ident]))
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
            if any(machine.objects[i].result is None for i in idents):  # lost again meanwhile
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
        elif what == "keep":
            self.state += job.met
            job.kept = True
        if what not in ("read", "deep") or not job.met:
            self._children(job)
            return

        def read() -> None:
            inner: list[bytes] = []
            for outer in job.met:
                result = machine.objects[outer].result
                assert result is not None
                job.values.append(value_of(result))
                for ident in result.inner if what == "deep" else ():
                    machine.hold(ident)
                    machine.hold_until_acked(ident, outer)
                    inner.append(ident)
            self.world.flush(self.process)
            if not inner:
                self._children(job)
                return
            job.inner = inner
            self._wait(inner, deeper)

        def deeper() -> None:
            for ident in job.inner:
                result = machine.objects[ident].result
                assert result is not None
                job.values.append(value_of(result))
            self._children(job)

        self._wait(job.met, read)

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
        own = [value_of(result) for r in refs if (result := machine.objects[r].result) is not None]
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
            inner = [machine.put_inline(msgspec.msgpack.encode(value), []) for _ in range(program.returns_refs)]
            machine.hand_over(msg.task, msg.attempt, job.src, inner)
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
        if job.pinned:
            machine.send(machine.raylet, Unpin(job.pinned))
        if not job.kept:
            self.submitter.drop(job.met)
        machine.drain_dropped()
        again = job.program.flaky and not msg.attempt
        done = Done(msg.task, msg.attempt, results, 500, again, exiting=job.program.spent)
        in_run = answered_in_run(self.executor, machine, job.src, done)
        if not in_run:
            machine.when_acked(job.met, lambda: machine.send(job.src, done))
        if not in_run or self.world.rng.random() < 0.3:  # else with the next one's answer
            self.world.flush(self.process, everything=True)
        if job.program.spent:
            self.executor.close()
            self._retire()
        self.next()

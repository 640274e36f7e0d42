"""What the simulated tasks and actors do: programs as data, and the worker that runs them in virtual time.

A task's program says how long it runs, what it returns, which tasks it submits and waits for itself, and whether it
keeps references. Values are numbers that can be checked: a task's value is its own number plus those of its arguments
and children.
"""

from __future__ import annotations

from typing import Any

import msgspec

from hpc.core.ids import Address
from hpc.core.owner.tables import Shape, Waiter
from hpc.core.resources import UNIT
from hpc.core.sim.world import Process, World
from hpc.core.wire import (
    ERROR,
    INLINE,
    STORED,
    SYSTEM,
    Alloc,
    Allocated,
    Blocked,
    Call,
    CreateActor,
    Done,
    EndActor,
    FetchAll,
    FetchedAll,
    Message,
    PleaseUnpin,
    Result,
    Seal,
    Task,
    Unblocked,
    Unpin,
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


def value_of(result: Result) -> Any:
    """A result's value, or the name of its error."""
    if result.kind == SYSTEM:
        return msgspec.msgpack.decode(result.data)["type"]
    if result.kind == ERROR:
        return result.data.decode()
    return result.size if result.kind == STORED else msgspec.msgpack.decode(result.data)


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

    def submit(self, program: Program, refs: list[bytes], retries: int = -1, depth: int = 0) -> bytes:
        """Submit a task; the id of its value, held once."""
        machine = self.process.machine
        task = machine.new_ids()
        args = msgspec.msgpack.encode(program)
        machine.submit(
            Task(task, 0, FN, f"t{program.number}", args, 1, [], refs, depth=depth), self.shape, retries, False, []
        )
        self.world.flush(self.process)
        return task

    def create(self, restarts: int = 0) -> bytes:
        """Create an actor; its id, held once."""
        machine = self.process.machine
        ident = machine.new_ids()
        machine.create_actor(CreateActor(ident, 0, FN, "actor", b"", {}), self.actor_shape, restarts, [])
        self.world.flush(self.process)
        return ident

    def call(self, actor: bytes, program: Program, retries: int = 0) -> bytes:
        """Call an actor; the id of the value, held once."""
        machine = self.process.machine
        task = machine.new_ids()
        args = msgspec.msgpack.encode(program)
        machine.submit_call(Call(task, 0, actor, 0, 0, "run", args, 1), retries, [])
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

    def result(self, ident: bytes) -> Any:
        """The value of an object that has one."""
        result = self.process.machine.objects[ident].result
        assert result is not None
        return value_of(result)

    def drop(self, idents: list[bytes]) -> None:
        """Let go of one hold on each."""
        self.process.machine.dropped.extend(idents)


class WorkerSim:
    """A worker's shell in virtual time."""

    def __init__(self, world: World, process: Process) -> None:
        self.world = world
        self.process = process
        self.executor = Executor()
        self.busy: Task | Call | CreateActor | None = None
        self.blocked = False
        self.seen: list[tuple[Address, int]] = []
        self.submitter = Submitter(world, process)
        #: What goes on when the raylet has answered a question about memory, by its number.
        self.asked: dict[int, Any] = {}
        self._questions = 0
        process.on_message = self.on_message

    def on_message(self, src: Address, msg: Message) -> None:
        """A message that is not for the owner's machine."""
        if isinstance(msg, (Allocated, FetchedAll)):
            if self.process.alive:
                self.asked.pop(msg.req)(msg)
            return
        if isinstance(msg, PleaseUnpin):
            self.process.machine.send(self.process.machine.raylet, Unpin([]))
            return
        if self.executor.handle(src, msg):
            for dst, reply in self.executor.replies:
                self.process.machine.send(dst, reply)
            self.executor.replies.clear()
            self.next()

    def published(self) -> tuple[bytes, int]:
        """What the worker's slot says that it runs."""
        busy = self.busy
        return (busy.task, busy.attempt) if isinstance(busy, (Task, Call)) else (b"", 0)

    def next(self) -> None:
        """Begin the next item if idle."""
        if self.busy is not None or not self.executor.ready or not self.process.alive:
            return
        src, msg = self.executor.ready.popleft()
        if isinstance(msg, EndActor):
            self.world.nodes[self.process.addr.node].machine.leasing.procs[self.process.addr.proc].exit_why = "ended"
            self.world.nodes[self.process.addr.node].machine.leasing.procs[self.process.addr.proc].exit_intended = True
            self.world.kill_process(self.process, "exit")
            return
        self.busy = msg
        if isinstance(msg, CreateActor):
            self._finish(src, msg.actor, msg.incarnation, [Result(INLINE, msgspec.msgpack.encode(None))])
            return
        if isinstance(msg, Call):
            self.seen.append((src, msg.seq))
        program = msgspec.msgpack.decode(msg.args, type=Program)
        stored = {ref: value for ref, value in zip(msg.refs, msg.values) if value.kind == STORED}
        if stored:
            self._admit(src, msg, program, stored)
        else:
            self.world.clock.after(program.run_s, lambda: self._children(src, msg, program, []))

    def _ask(self, build: Any, then: Any) -> None:
        """A question about memory to the raylet; ``then`` is called with the answer."""
        self._questions += 1
        self.asked[self._questions] = then
        self.process.machine.send(self.process.machine.raylet, build(self._questions))
        self.world.flush(self.process, everything=True)

    def _admit(self, src: Address, msg: Task | Call, program: Program, stored: dict[bytes, Result]) -> None:
        """The task's arguments are read, all of them, while it runs."""

        def admitted(answer: FetchedAll) -> None:
            if answer.why:
                kind = "ObjectStoreFullError" if "has no room" in answer.why else "ObjectLostError"
                self._finish(src, msg.task, msg.attempt, [system_error(kind, answer.why)])
            else:
                self.world.clock.after(program.run_s, lambda: self._children(src, msg, program, answer.idents))

        values = stored.values()
        sizes, nodes = [v.size for v in values], [list(v.nodes) for v in values]
        self._ask(lambda req: FetchAll(req, list(stored), sizes, nodes), admitted)

    def _children(self, src: Address, msg: Task | Call, program: Program, pinned: list[bytes]) -> None:
        if not self.process.alive:
            return
        if not program.children:
            self._compute(src, msg, program, [], pinned)
            return
        depth = getattr(msg, "depth", 0) + 1
        refs = [self.submitter.submit(child, [], depth=depth) for child in program.children]
        machine = self.process.machine
        for dst, back in self.executor.give_back():
            machine.send(dst, back)
        machine.send(machine.raylet, Blocked())
        self.blocked = True
        self.world.flush(self.process, everything=True)

        def resume() -> None:
            if self.process.alive:
                self.blocked = False
                machine.send(machine.raylet, Unblocked())
                self._compute(src, msg, program, refs, pinned)

        self.submitter.when_all(refs, resume)

    def _compute(
        self, src: Address, msg: Task | Call, program: Program, refs: list[bytes], pinned: list[bytes]
    ) -> None:
        if not self.process.alive:
            return
        machine = self.process.machine
        value: Any = program.number
        for result in [*(machine.objects[r].result for r in refs), *msg.values]:
            one = value_of(result) if result is not None else 0
            value = value + one if isinstance(one, int) and isinstance(value, int) else value
        self.submitter.drop(refs)
        if program.large:
            self._store(src, msg, value, pinned)
            return
        self._unpin(pinned)
        results: list[Result]
        if program.fails:
            results = [Result(ERROR, b"failed")]
        elif program.returns_refs:
            inner = [machine.put_inline(msgspec.msgpack.encode(value), []) for _ in range(program.returns_refs)]
            machine.hand_over(msg.task, msg.attempt, src, inner)
            self.submitter.drop(inner)
            results = [Result(INLINE, msgspec.msgpack.encode(value), inner=inner)]
        else:
            results = [Result(INLINE, msgspec.msgpack.encode(value))]
        self._finish(src, msg.task, msg.attempt, results)

    def _unpin(self, pinned: list[bytes]) -> None:
        if pinned:
            self.process.machine.send(self.process.machine.raylet, Unpin(pinned))

    def _store(self, src: Address, msg: Task | Call, size: int, pinned: list[bytes]) -> None:
        """Put a value into the arena as `size` bytes, and end the task with it; the arguments are read until then."""
        size = max(1, size) if isinstance(size, int) else 1
        raylet = self.process.machine.raylet

        def allocated(answer: Allocated) -> None:
            if answer.offset < 0:
                self._unpin(pinned)
                self._finish(src, msg.task, msg.attempt, [system_error("ObjectStoreFullError", answer.why)])
                return
            self.process.machine.send(raylet, Seal(msg.task, answer.offset, size))
            self.process.machine.send(raylet, Unpin([msg.task, *pinned]))
            result = Result(STORED, b"", size, [self.process.addr.node])
            self._finish(src, msg.task, msg.attempt, [result])

        self._ask(lambda req: Alloc(req, size, msg.task), allocated)

    def _finish(self, src: Address, task: bytes, attempt: int, results: list[Result]) -> None:
        self.busy = None
        self.process.machine.drain_dropped()
        self.process.machine.send(src, Done(task, attempt, results, 500))
        self.world.flush(self.process, everything=True)
        self.next()

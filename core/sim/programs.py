"""What the simulated tasks and actors do: programs as data, and their submission.

A task's program says how long it runs, what it returns, and which tasks it submits and waits for itself. It also says
what the task does with the references among its arguments. Values are numbers that can be checked. A task's value is
its own number plus those of its arguments, of what it read, and of its children.
"""

from __future__ import annotations

from typing import Any

import msgspec

from hpc.core.owner.streams import END, item_id
from hpc.core.owner.tables import CallKind, Shape, Waiter
from hpc.core.passing import names_and_failure
from hpc.core.resources import UNIT
from hpc.core.sim.processes import Process
from hpc.core.sim.world import World
from hpc.core.wire import (
    ERROR,
    STORED,
    STREAM_IDS,
    STREAMING,
    SYSTEM,
    Call,
    CreateActor,
    Result,
    Task,
)

FN = b"program"
#: What tasks take of devices.
GPU_PARTS = (UNIT * 3 // 10, UNIT * 7 // 10, UNIT)


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
    #: the references inside them too, "keep" leave them in the actor's state, "forget" empty that,
    #: "recall" look what is in there.
    borrow: str = ""
    #: Its worker ends after it, as the last of `max_calls` does.
    spent: bool = False
    #: It ends the actor, as exit_actor() does.
    exits: bool = False
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
        machine.state.functions[FN] = b"code"
        held = {"CPU": int(cpus * UNIT)}
        self.shape = machine.leases.add_shape(Shape(held, held, "DEFAULT", {}, False))
        parts = GPU_PARTS if world.gpus else ()
        self.gpu_shapes = [
            machine.leases.add_shape(Shape({**held, "GPU": gpu}, {**held, "GPU": gpu}, "DEFAULT", {}, False))
            for gpu in parts
        ]
        self.actor_shape = machine.leases.add_shape(Shape({}, held, "DEFAULT", {}, True))
        self._kinds: dict[tuple[bytes, int], CallKind] = {}

    def submit(
        self,
        program: Program,
        refs: list[bytes],
        retries: int = -1,
        depth: int = 0,
        holds: list[bytes] | None = None,
        shape: Shape | None = None,
        parent: bytes = b"",
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
        machine.tasks.submit(msg, shape or self._shape_of(program), retries, False, holds or [], parent)
        self.world.flush(self.process)
        return task

    def _shape_of(self, program: Program) -> Shape:
        """Some tasks need a device: of those that wait for nobody, who may need the same one."""
        if not self.gpu_shapes or program.children or program.borrow or program.items or program.number % 4:
            return self.shape
        return self.gpu_shapes[program.number // 4 % len(self.gpu_shapes)]

    def put(self, value: int, inner: list[bytes]) -> bytes:
        """An object with references inside; its id, held once."""
        return self.process.machine.objects.put_inline(msgspec.msgpack.encode(value), inner)

    def cancel(self, ident: bytes) -> None:
        """Cancel the task that makes the object."""
        self.process.machine.cancel(ident, False, True)
        self.world.flush(self.process)

    def kill(self, actor: bytes) -> None:
        """End an actor by force."""
        self.process.machine.actors.kill(actor, True)
        self.world.flush(self.process)

    def take(self, task: bytes, index: int, then: Any) -> None:
        """Wait for an item of a generator, then call ``then`` with its value, or None at the end."""
        machine = self.process.machine
        ident = item_id(task, index)

        def there() -> None:
            result = machine.state.entries[ident].result
            if result is END:
                then(None)
                return
            assert result is not None
            machine.streams.take_item(task)
            self.drop([ident])
            self.world.flush(self.process)
            then(value_of(result))

        self.when_all([ident], there)

    def create(self, restarts: int = 0, shape: Shape | None = None, refs: list[bytes] | None = None) -> bytes:
        """Create an actor; its id, held once. ``refs`` are arguments of its constructor."""
        machine = self.process.machine
        ident = machine.new_ids()
        args = msgspec.msgpack.encode(Program(0, 0.0))
        msg = CreateActor(ident, 0, FN, "actor", args, {}, refs=tuple(refs or ()))
        machine.actors.create(msg, shape or self.actor_shape, restarts, [])
        self.world.flush(self.process)
        return ident

    def call(
        self,
        actor: bytes,
        program: Program,
        retries: int = 0,
        holds: list[bytes] | None = None,
        refs: list[bytes] | None = None,
        group: str = "",
    ) -> bytes:
        """Call an actor; the id of the value, held once. ``refs`` are its arguments, ``holds`` are nested in them,
        ``group`` is the concurrency group."""
        machine = self.process.machine
        args = msgspec.msgpack.encode(program)
        if not refs and not holds and not group:
            kind = self._kinds.setdefault((actor, retries), CallKind("run", retries, False))
            ident = machine.calls.runs.add(kind, actor, args, b"")
            if ident is not None:
                if machine.urgent:
                    self.world.flush(self.process)
                return ident
        task = machine.new_ids()
        msg = Call(task, 0, actor, 0, 0, "run", args, 1, refs=tuple(refs or ()), holds=tuple(holds or ()), group=group)
        machine.calls.submit(msg, retries, holds or [])
        self.world.flush(self.process)
        return task

    def when_all(self, idents: list[bytes], then: Any) -> None:
        """Call ``then`` once all have values."""
        machine = self.process.machine
        entries = [machine.state.entries[i] for i in dict.fromkeys(idents)]
        pending = [e for e in entries if e.result is None]
        if not pending:
            then()
            return
        waiter = Waiter(len(pending), then)
        for entry in pending:
            machine.objects.await_value(entry, waiter)
        machine.leases.ask_exactly()
        self.world.flush(self.process, everything=True)

    def has_value(self, ident: bytes) -> bool:
        """Whether the object has a value at the moment."""
        return self.process.machine.state.entries[ident].result is not None

    def result(self, ident: bytes) -> Any:
        """The value of an object that has one."""
        result = self.process.machine.state.entries[ident].result
        assert result is not None
        return value_of(result)

    def lives(self, actor: bytes) -> bool:
        """Whether an actor of this process's has not ended."""
        owned = self.process.machine.state.actors.get(actor)
        return owned is not None and owned.state != "dead" and not owned.ending

    def drop(self, idents: list[bytes]) -> None:
        """Let go of one hold on each."""
        self.process.machine.dropped.extend(idents)

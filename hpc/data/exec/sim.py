"""The machine under virtual time. A seed repeats exactly.

Plans are random. Tasks take their time and die, actors die, CPUs come and go or are kept by others, consumers stop.

What is checked: each row comes exactly once and in order, and every run ends. What lies in the store exceeds the budget
by no more than one block of each operator.
"""

from __future__ import annotations

import heapq
import random
import weakref
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from hpc.data.block.meta import BlockMeta
from hpc.data.exec import sim_exchange
from hpc.data.exec.actions import Cancel, Emit, Finish, Found, Pull, Report, StartActor, StopActor, Submit, Take
from hpc.data.exec.budget import NodeRoom
from hpc.data.exec.loosen import loosen
from hpc.data.exec.machine import Machine
from hpc.data.exec.operators import Operator
from hpc.data.exec.operators.combine import RandomizeOperator, UnionOperator, ZipOperator
from hpc.data.exec.operators.maps import LimitOperator, MapOperator, OutputOperator, ReadOperator, ResizeOperator
from hpc.data.exec.settings import RunSettings
from hpc.data.exec.sim_exchange import KINDS, OTHER_KINDS, exchange_operator, join_of_reads, joining_read, pieces_of
from hpc.data.exec.sim_others import Others
from hpc.data.exec.sim_store import Rows, Stored, check_rows, gathered
from hpc.data.exec.work import BLOCK_OVERHEAD, Actor, Block, Cause, Part, Work, WorkState
from hpc.data.plan.nodes import Options, Pool

#: A run that has not ended by then, by its own clock, does not end.
END_S = 100_000.0
#: After so many deaths nothing dies any more, so that long parts come to their end.
MOST_DEATHS = 200


@dataclass
class Running:
    """A task or call in the world."""

    work: Work
    window: int
    #: Blocks of each part: they are the same in each attempt.
    blocks: list[list[tuple[Rows, int]]]
    number: int = 0
    node: str = "1"
    inputs: tuple[Stored, ...] = ()
    begun: bool = False
    has_cpu: bool = False
    #: The next block to be made.
    part: int = 0
    at: int = 0
    #: Made and not taken: (part, Stored).
    made: list[tuple[int, Stored]] = field(default_factory=list)
    #: How many blocks were told already, by an attempt that has died.
    told: int = 0
    count: int = 0
    told_part: int = 0
    allowed: int = 0
    offered: bool = False
    over: bool = False
    rows: int = 0
    digest: int = 0


class World:
    """All that is around the machine."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        #: Every third world has exchanges, and no operators that want rows in their order.
        self.exchanges = seed % 3 == 2
        #: In every fourth world rows need come in no order.
        self.is_loose = seed % 4 == 1
        self.now = 0.0
        self.stored = 0
        self.excess = 0
        #: Every fifth world has several nodes, of which all but the first may die.
        self.nodes = ["1", "2", "3"] if seed % 5 == 4 else ["1"]
        self.objects: weakref.WeakSet[Stored] = weakref.WeakSet()
        self.node_deaths = self.made_again = 0
        self.deaths = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self.story: list[str] = []
        self.errored: set[tuple[int, int]] = set()
        self._running: dict[int, Running] = {}
        self._actors: dict[tuple[int, int], Actor] = {}
        self._calls: dict[tuple[int, int], list[Running]] = {}
        self._queue: list[Running] = []
        self.used = 0.0
        self._taken = 0
        self.got: list[Any] = []
        self.waiting: list[Block] = []
        self.awaited = 0
        self.finished = False
        self.error: BaseException | None = None
        self.largest: dict[int, int] = {}
        self._build()
        self.others = Others(self, seed)

    # -------------------------------------------------------------- the program

    def _build(self) -> None:
        draw = self.random
        self.ops: list[Operator] = []
        self.dies = draw.choice([0.0, 0.0, 0.02, 0.1])
        self.fails = draw.choice([0.0, 0.0, 0.0, 0.05])
        self.cpus = draw.randint(1, 6)
        self.limit = draw.choice([200_000, 1_000_000, 20_000_000])
        self.target = self.limit // 24
        self.slow = draw.choice([0.001, 0.1, 2.0])
        self.consumer_s = draw.choice([0.0, 0.0, 0.05, 3.0])
        self.closes_at = draw.choice([None, None, None, draw.randint(1, 50)])
        self._first_row = 0
        top, rows = self._chain(draw.randint(1, 4))
        self.expected = rows
        output = OutputOperator()
        self._join(output, top)
        settings = RunSettings(
            target_bytes=self.target, max_errored=-1 if self.fails else 0, attempts=1_000_000, give_up_s=float("inf"),
            init_attempts=1_000_000,
        )  # fmt: skip
        if self.is_loose:
            self.ordered = False
            loosen(self.ops, True)
        self.machine = Machine(self.ops, settings)

    def _join(self, op: Operator, *ups: Operator) -> None:
        for port, up in enumerate(ups):
            up.down, up.down_port = op, port
            op.ups.append(up)
        self.ops.append(op)

    def _read(self, make: Callable[[list[Rows]], Operator] | None = None) -> tuple[Operator, list[Any]]:
        draw = self.random
        parts, each = draw.randint(0, 60), draw.choice([1, 3, 20])
        first = self._first_row
        units: list[Rows] = [tuple(range(first + i * each, first + (i + 1) * each)) for i in range(parts)]
        self._first_row += parts * each
        op = ReadOperator("Read", self._body, units, -1, Options()) if make is None else make(units)
        self._join(op)
        return op, [row for unit in units for row in unit]

    def _body(self, *_: Any) -> Any:
        raise AssertionError("bodies do not run here")

    def _chain(self, length: int) -> tuple[Operator, list[Any]]:
        draw = self.random
        op, rows = self._read()
        for _ in range(length):
            kind = draw.choice(KINDS if self.exchanges else OTHER_KINDS)
            if kind == "map":
                after: Operator = MapOperator("Map", self._body, Options(concurrency=draw.choice([None, None, 2])))
            elif kind == "pool":
                least = draw.randint(1, 2)
                pool = Pool(least, draw.choice([None, least, least + 2]), None, None, draw.choice([1, 1, 2]))
                after = MapOperator("Pool", self._body, Options(num_cpus=draw.choice([0.0, 0.5])), pool)
            elif kind == "limit" and self.ordered:
                count = draw.choice([0, 1, 10, 100, 10_000])
                after = LimitOperator("Limit", count)
                rows = rows[:count]
            elif kind in ("union", "cut-reads"):
                other, more = self._read() if kind == "union" else self._read(partial(sim_exchange.cutting_read, draw))
                if kind == "cut-reads":
                    reader, other, self.ordered = other, sim_exchange.exchange_of_reads(draw), False
                    self._join(other, reader)
                after = UnionOperator("Union", 2)
                self._join(after, op, other)
                op, rows = after, rows + more
                continue
            elif kind == "zip" and not self.fails:
                first = self._first_row
                other, more = self._read()
                if len(more) != len(rows):
                    self.ops.remove(other)
                    self._first_row = first
                    continue
                after = ZipOperator("Zip", 2)
                self._join(after, op, other)
                op, rows = after, list(zip(rows, more))
                continue
            elif kind == "exchange":
                self.ordered = False
                after = exchange_operator(draw, 1)
            elif kind == "join":
                self.ordered = False
                other, more = self._read()
                after = exchange_operator(draw, 2)
                self._join(after, op, other)
                op, rows = after, rows if after.exchange.semi else rows + more  # type: ignore[attr-defined]
                continue
            elif kind == "joined-reads":
                self.ordered = False
                reader, rows = self._read(partial(joining_read, op))
                after = join_of_reads(draw, reader)
                self._join(after, reader, op)
                op = after
                continue
            elif kind == "shuffle" and not any(isinstance(o, LimitOperator) for o in self.ops):
                after = RandomizeOperator("Shuffle", draw.randint(0, 99))
                self.ordered = False
            else:
                after = ResizeOperator("Resize", draw.choice([1, 7, 50]), draw.random() < 0.5)
            if kind in ("map", "pool") and len(self.nodes) == 1:
                after.takes_at_end = draw.random() < 0.3
            self._join(after, op)
            op = after
        return op, rows

    ordered = True

    # -------------------------------------------------------------- time

    def later(self, delay: float, do: Callable[[], None]) -> None:
        """Do something after some time."""
        self._count += 1
        heapq.heappush(self._events, (self.now + delay, self._count, do))

    def delay(self, mean: float) -> float:
        """Some time."""
        return self.random.expovariate(1.0 / mean) if mean else 0.0

    def run(self) -> None:
        """Until the run has ended. Raises AssertionError for what must not be."""
        self.machine.start(self._rooms(), 0.0)
        self.act()
        if self.random.random() < 0.3:
            self.later(self.delay(5.0), self._change_nodes)
        if len(self.nodes) > 1:
            self.later(self.delay(20 * self.slow), self._node_dies)
        while not self.finished:
            assert self._events, f"nothing will happen any more: {self.stands()}"
            self.now, _, do = heapq.heappop(self._events)
            assert self.now < END_S, f"it does not end: {self.stands()}"
            self.machine.now = self.now
            do()
            del do  # with what it has in the store
            self.others.look()
            self.act()
            self._check()
        check_rows(self)

    def stands(self) -> str:
        """What each operator is at."""
        return "; ".join(
            f"{op.name} waits {self.machine.why(op)!r}, {len(op.running)} run, {op.waiting()} wait, "
            f"{len(op.again)} again, over {op.told_over}, head {op.order.head}"
            for op in self.ops
        )

    def _rooms(self) -> dict[str, NodeRoom]:
        return {node: NodeRoom(self.cpus, 0, self.limit, 1 << 40) for node in self.nodes}

    def _node_dies(self) -> None:
        """A node dies with what runs and lies there, and another one comes."""
        dead = self.random.choice(self.nodes[1:])
        self.nodes = [node for node in self.nodes if node != dead] + [str(int(max(self.nodes, key=int)) + 1)]
        self.node_deaths += 1
        for one in list(self.objects):
            one.lost = one.lost or one.node == dead
        calls = {(run.work.op.index, run.work.actor) for run in self._running.values() if run.node == dead}
        for run in [run for run in self._running.values() if run.node == dead and run.work.actor is None]:
            run.node = "1"
            if run.begun and not run.over:
                self._die(run)
        for key in [key for key, actor in self._actors.items() if actor.node == dead or key in calls]:
            self._lose_actor(key)
        self.machine.nodes(self._rooms())
        if self.node_deaths < 8:
            self.later(self.delay(20 * self.slow), self._node_dies)

    def _change_nodes(self) -> None:
        self.cpus = self.random.randint(1, 6)
        self.machine.nodes(self._rooms())
        self.begin_queued()
        self.later(self.delay(20.0), self._change_nodes)

    # -------------------------------------------------------------- the shell's part

    def act(self) -> None:
        """Do what the machine wants."""
        while True:
            actions = self.machine.decide(self.now)
            if not actions:
                return
            for action in actions:
                self._do(action)

    def _do(self, action: Any) -> None:
        kind = type(action)
        if kind is Submit:
            self._submit(action)
        elif kind is Take:
            running = self._running.get(action.work.number)
            if running is not None:
                running.allowed = action.most
                self._read_stream(running)
        elif kind is Emit:
            self.waiting.append(action.block)
            if len(self.waiting) == 1:
                self.later(self.delay(self.consumer_s), self._consume)
        elif kind is Found:
            assert action.block is self.waiting[0], "the consumer waits for another one"
            self.later(self.delay(self.consumer_s), self._consume)
        elif kind is Cancel:
            running = self._running.pop(action.work.number, None)
            if running is not None:
                self._drop(running)
        elif kind is Pull:
            op, most = action.op, action.most
            self.later(self.delay(0.01), lambda: self._pulled(op, most))
        elif kind is StartActor:
            actor = action.actor
            self._actors[actor.op.index, actor.number] = actor
            self.others.start(actor)
        elif kind is StopActor:
            self._actors.pop((action.actor.op.index, action.actor.number), None)
        elif kind is Finish:
            self.finished, self.error = True, action.error
        else:
            assert kind is Report

    def _pulled(self, op: Any, most: int) -> None:
        units, op.source = op.source[:most], op.source[most:]
        self.machine.units(op, units, not op.source)

    def _consume(self) -> None:
        if self.finished or not self.waiting:
            return
        block = self.waiting[0]
        if not block.ref.is_there():
            assert block.origin is not None, "nothing makes it again"
            self.awaited += 1
            self.machine.awaited(block, block.ref, RuntimeError("lost"))
            return
        self.got += block.ref.rows
        del self.waiting[0], block
        self._taken += 1
        if self.closes_at is not None and self._taken >= self.closes_at:
            self.machine.close()
            return
        self.machine.taken(1)
        if self.waiting:
            self.later(self.delay(self.consumer_s), self._consume)

    # -------------------------------------------------------------- tasks

    def _submit(self, action: Submit) -> None:
        work = action.work
        blocks = [self._blocks_of(work, part) for part in work.parts]
        running = Running(work, action.window, blocks, work.number)
        self._running[work.number] = running
        self.made_again += work.remakes
        if len(self.nodes) > 1:
            running.node = work.node if work.node in self.nodes else "1"
            running.inputs = tuple(block.ref for block in work.blocks)
        if work.actor is None:
            self._queue.append(running)
            self.later(self.delay(0.01), self.begin_queued)
        else:
            calls = self._calls.setdefault((work.op.index, work.actor), [])
            calls.append(running)
            pool = work.op.pool
            assert pool is not None
            if len(calls) <= pool.concurrent:
                self.later(self.delay(0.01), lambda: self._begin(running))

    def _blocks_of(self, work: Work, part: Part) -> list[tuple[Rows, int]]:
        """What a part gives: a function of its input alone, in blocks of sizes that follow from the rows."""
        op, note = work.op, part.note
        if (pieces := pieces_of(op, work, part)) is not None:
            return [(rows, 50 + 20 * len(rows)) for rows in pieces]
        if part.unit is not None:
            rows: Rows = part.unit
        elif isinstance(op, ZipOperator):
            sides = [block.ref.rows[first : first + count] for block, (first, count) in zip(part.blocks, note)]
            rows = tuple(zip(*sides))
        elif note is not None:
            rows = tuple(
                row for block, (first, count) in zip(part.blocks, note) for row in block.ref.rows[first : first + count]
            )
        else:
            rows = tuple(row for block in part.blocks for row in block.ref.rows)
        found, at = [], 0
        if isinstance(op, ResizeOperator):
            step = op.bodies["main"].rows  # type: ignore[attr-defined]
            cuts = [rows[i : i + step] for i in range(0, len(rows), step)]
        else:
            cuts = []
            while at < len(rows):
                count = 1 + zlib.crc32(repr(rows[at]).encode()) % 9
                if op.takes_at_end:  # each attempt cuts otherwise
                    count = self.random.randint(1, 9)
                cuts.append(rows[at : at + count])
                at += count
        for cut in cuts:
            most = self.target >> (zlib.crc32(op.name.encode()) + op.index) % 6  # alike in each operator
            size = most // 2 + zlib.crc32(repr((op.index, cut[0])).encode()) % (most // 2)
            found.append((cut, size))
        return found

    def begin_queued(self) -> None:
        """Tasks begin, as far as there are CPUs."""
        while (running := self.others.next_of(self._queue)) is not None:
            if not running.over:
                running.has_cpu = not running.work.shares
                self.used += running.has_cpu
                self._begin(running)

    def _begin(self, running: Running) -> None:
        if running.over or running.number not in self._running:
            return
        gone = [block for block, ref in zip(running.work.blocks, running.inputs) if not ref.is_there()]
        if gone:
            self._running.pop(running.number, None)
            self._drop(running)
            still = [block for block in gone if not block.ref.is_there()]
            if still:
                self.machine.lost(running.work, still, RuntimeError("lost"))
            else:
                self.machine.failed(running.work, RuntimeError("lost"), Cause.CRASH)
            self.act()
            return
        if not running.begun:
            running.begun = True
            self.machine.begun(running.work, running.node)
        self._step(running)

    def _step(self, running: Running) -> None:
        """The task makes its next block, after some time."""
        mean = self.slow * (0.01 if self.random.random() < 0.5 else 1.0)
        attempt = running.count, running.part
        self.later(self.delay(mean), lambda: self._make(running, attempt))

    def _make(self, running: Running, attempt: tuple[int, int]) -> None:
        work = running.work
        if running.over or running.number not in self._running or attempt != (running.count, running.part):
            return
        if self.deaths < MOST_DEATHS and self.random.random() < self.dies:
            self._die(running)
            return
        may_fail = (
            running.part < len(running.blocks) and not work.remakes
        )  # a part that was made once fails in no world
        if self.fails and self.random.random() < self.fails and may_fail:
            self._fail(running)
            return
        if running.part == len(running.blocks):
            running.made.append((running.part, Stored(self, work.op.index, (), 0)))  # its last word
            self._lend(running)
            self._read_stream(running)
            return
        blocks = running.blocks[running.part]
        if running.at == len(blocks):
            running.part, running.at = running.part + 1, 0
            self._step(running)
            return
        rows, size = blocks[running.at]
        running.at += 1
        running.count += 1
        if running.count > running.told:
            running.told = running.count
            self.largest[work.op.index] = max(self.largest.get(work.op.index, 0), size)
            running.made.append((running.part, Stored(self, work.op.index, rows, size, running)))
            self._read_stream(running)
        if running.number in self._running and not running.over and len(running.made) < running.window:
            self._step(running)
        else:
            self._lend(running)  # whoever waits for its consumer lends its CPU

    def _lend(self, running: Running) -> None:
        if running.has_cpu:
            running.has_cpu = False
            self.used -= 1
            self.later(0.0, self.begin_queued)

    def _die(self, running: Running) -> None:
        self.deaths += 1
        if running.work.op.takes_at_end and running.work.actor is None:
            self._running.pop(running.number, None)
            self._drop(running)
            self.machine.failed(running.work, RuntimeError("killed"), Cause.CRASH)
            return
        if running.work.actor is None:
            running.part = running.at = running.count = 0
            self._step(running)
            return
        self._lose_actor((running.work.op.index, running.work.actor))

    def _lose_actor(self, key: tuple[int, int]) -> None:
        actor = self._actors.pop(key, None)
        for call in self._calls.pop(key, []):
            self._running.pop(call.number, None)
            self._drop(call)
        if actor is not None:
            self.machine.actor_lost(actor, RuntimeError("the actor died"))

    def _fail(self, running: Running) -> None:
        self._running.pop(running.number, None)
        # What was made before is told before.
        while running.made and running.made[0][0] < len(running.blocks):
            self._tell(running)
            if running.over:
                break
        while running.told_part < running.part and running.work.state is not WorkState.OVER:
            running.told_part += 1
            self.machine.part_over(running.work)
        self._drop(running)
        self.machine.failed(running.work, ValueError("the function failed"), Cause.PART)

    def _drop(self, running: Running) -> None:
        running.over = True
        running.made.clear()
        self._lend(running)
        self._next_call(running)

    def _next_call(self, running: Running) -> None:
        work = running.work
        if work.actor is None:
            return
        calls = self._calls.get((work.op.index, work.actor), [])
        if running in calls:
            calls.remove(running)
        pool = work.op.pool
        assert pool is not None
        for call in calls[: pool.concurrent]:
            if not call.begun:
                self._begin(call)

    def _read_stream(self, running: Running) -> None:
        """What `TaskStream.read` does."""
        work = running.work
        while running.made and work.state is not WorkState.OVER and running.number in self._running:
            part, stored = running.made[0]
            if part == len(running.blocks):
                self._parts_until(running, part)
                self._running.pop(running.number, None)
                self._drop(running)
                self.machine.over(work, self.slow * len(work.parts), 0, {})
                return
            if not running.allowed:
                if not running.offered:
                    running.offered = True
                    self.machine.offered(work, stored.nbytes)
                return
            running.allowed -= 1
            running.offered = False
            was_full = len(running.made) >= running.window
            self._tell(running)
            if was_full and not running.over:
                if work.actor is None and not (running.has_cpu or work.shares):
                    running.has_cpu = True  # who has lent its CPU gets it back at once
                    self.used += 1
                self._step(running)
        running.allowed = 0

    def _parts_until(self, running: Running, part: int) -> None:
        while running.told_part < part and running.work.state is not WorkState.OVER:
            running.told_part += 1
            running.rows = running.digest = 0
            self.machine.part_over(running.work)

    def _tell(self, running: Running) -> None:
        part, stored = running.made.pop(0)
        self._parts_until(running, part)
        rows = len(stored.rows)
        running.digest = zlib.crc32(rows.to_bytes(8, "little"), running.digest)
        meta = BlockMeta(rows, stored.nbytes, b"", (), running.rows, running.digest)
        running.rows += rows
        self.machine.block(running.work, stored, meta, node=stored.node)

    def actor_up(self, actor: Actor) -> None:
        """An actor begins, unless it was stopped meanwhile, or fails to."""
        if (actor.op.index, actor.number) not in self._actors:
            return
        if self.random.random() < self.dies:
            self._actors.pop((actor.op.index, actor.number), None)
            self.machine.actor_lost(actor, RuntimeError("it did not begin"))
        else:
            self.machine.actor_up(actor, self.random.choice(self.nodes) if len(self.nodes) > 1 else "1")

    # -------------------------------------------------------------- what must hold

    def _check(self) -> None:
        if any(op.hoards for op in self.ops) or len(self.nodes) > 1:
            return
        needed = sum(block.bytes for op in self.ops for block in gathered(op))
        self.excess = max(self.excess, self.stored - self.limit - sum(self.largest.values()) - needed)
        assert self.excess <= 0, f"{self.excess} bytes more than the budget and a block of each operator"


def run_seed(seed: int) -> World:
    """One run. Raises AssertionError."""
    world = World(seed)
    world.run()
    return world


__all__ = ["BLOCK_OVERHEAD", "Block", "World", "run_seed"]

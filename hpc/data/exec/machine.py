"""The streaming executor: told of events, it leaves actions. No clock, socket, thread or random number.

It keeps to the budget, gives room to what is nearest the consumer first, and always has something run. Where nothing
below an operator runs, waits or is left to be consumed, the operator may exceed the budget by one block.

Each event costs what it changes. `decide` looks once at each operator, not at its tasks or blocks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from hpc.data.block.meta import BlockMeta
from hpc.data.exec.actions import Action, Cancel, Emit, Finish, Found, Report, StartActor
from hpc.data.exec.budget import NodeRoom
from hpc.data.exec.crowded import Crowded
from hpc.data.exec.errors import ActorsFailedError, BlockLostError, CutsChangedError, StalledError, with_part
from hpc.data.exec.operators import Operator
from hpc.data.exec.operators.maps import LimitOperator, ReadOperator
from hpc.data.exec.recover import Recovery
from hpc.data.exec.scheduler import Scheduler
from hpc.data.exec.settings import RunSettings
from hpc.data.exec.stall import needs, why_no_actor, why_stands
from hpc.data.exec.waits import Wait
from hpc.data.exec.work import Actor, Block, Cause, Part, Work, WorkState
from hpc.exceptions import GetTimeoutError

#: For each attempt that counts, there may be so many of which the process ended before it began.
STARTS = 8


class Machine(Scheduler):
    """One run. ``ops``: inputs before what uses them, the `OutputOperator` last."""

    def __init__(self, ops: Sequence[Operator], settings: RunSettings, queued_per_actor: int | None = None) -> None:
        super().__init__(ops, settings, queued_per_actor)
        self._spilled = 0
        self.recovery = Recovery(self.ops, self.release, self._moved, self._found)
        self.crowded = Crowded(self.ops, self.pools, self._share_task, self._share_actor)
        for op in self.ops:
            op.host = self

    # -------------------------------------------------------------- events

    def start(self, rooms: dict[str, NodeRoom], now: float) -> None:
        """The run begins on these nodes."""
        self.now = self.progress_at = self._reported_at = now
        if self.pools and self.settings.wait_actors_s:
            self.wait_until = now + self.settings.wait_actors_s
        self.nodes(rooms)
        for op in self.ops:
            if isinstance(op, LimitOperator):
                op.begin()

    def nodes(self, rooms: dict[str, NodeRoom]) -> None:
        """These nodes are there now."""
        use = self.settings
        cpus = min(use.cpu_limit, sum(room.cpus for room in rooms.values()) - use.exclude_cpus)
        gpus = min(use.gpu_limit, sum(room.gpus for room in rooms.values()) - use.exclude_gpus)
        store = min(use.store_limit, sum(room.store for room in rooms.values()) - use.exclude_store)
        heap = min(use.heap_limit, sum(room.heap for room in rooms.values()) - use.exclude_heap)
        self.budget.set_nodes(rooms, cpus, gpus, store, heap)
        self.recovery.is_on = self.recovery.is_on or len(rooms) > 1
        self.output.keeps = self.recovery.is_on and self.output.is_fragile

    def units(self, op: ReadOperator, units: list[Any], ended: bool) -> None:
        """Parts of a source have come."""
        if not op.stopped:
            self._went_on()
            op.units(units, ended)

    def begun(self, work: Work, node: str) -> None:
        """A piece of work has begun on a node."""
        if work.state is WorkState.OVER:
            return
        self._went_on()
        work.state, work.began = WorkState.BEGUN, self.now
        self.crowded.begun(work)
        if len(self.budget.nodes) > 1:
            work.op.tally.received += sum(block.meta.nbytes for block in work.blocks if block.node not in ("", node))
        if node != work.node:
            self.budget.reserve(work.node, -work.reserved, -work.heap)
            work.node = node
            self.budget.reserve(node, work.reserved, work.heap)

    def offered(self, work: Work, nbytes: int) -> None:
        """The next block of a piece of work is there, and has so many bytes. It is taken when a `Take` says so."""
        if work.state is not WorkState.OVER:
            work.offered, work.offer = True, nbytes
            self._offered[work.op.index].append(work)
            self._fresh.add(work.op.index)

    def block(
        self, work: Work, ref: Any, meta: BlockMeta, note: Any = None, value: Any = None, node: str | None = None
    ) -> None:
        """A block has come of the part at hand. ``node``: where it lies, if not where the work began."""
        if work.state is WorkState.OVER:
            return
        self._went_on()
        op = work.op
        mark = (meta.rows, meta.digest)
        if meta.first != work.rows:
            self._changed(work, f"{meta.first} rows came before block {work.seen}, not {work.rows}")
            return
        block = Block(ref, meta, work.node if node is None else node, note, value)
        if work.seen < work.replay or work.remakes:
            if work.seen < work.replay and work.digests[work.seen] != mark:
                self._changed(work, f"block {work.seen} has {meta.rows} rows, not {work.digests[work.seen][0]}")
                return
            self.recovery.made_again(work, block)
            work.seen += 1
            work.rows += meta.rows
            return
        self.recovery.made(work, block)
        work.digests.append(mark)
        work.seen += 1
        work.rows += meta.rows
        block.counts = True
        block.maker = op.tally
        op.tally.live += block.bytes
        self.budget.hold(block.node, block.bytes)
        if op.takes_at_end:
            work.kept.append(block)
            return
        op.tally.block(meta.rows, meta.nbytes)
        op.made(work, block)

    def part_over(self, work: Work) -> None:
        """The part at hand has given all of its blocks."""
        if work.state is WorkState.OVER:
            return
        if work.seen < work.replay:
            self._changed(work, f"it gave {work.seen} blocks, not at least {work.replay}")
            return
        part = work.part
        kept, work.kept = work.kept, []
        for block in kept:
            work.op.tally.block(block.meta.rows, block.meta.nbytes)
            work.op.made(work, block)
        work.next_part()
        if not work.remakes:
            work.op.part_over(work, part)

    def over(self, work: Work, seconds: float, heap: int, counters: dict[str, float]) -> None:
        """A piece of work has ended well. ``heap``: by so much its process grew."""
        if work.state is WorkState.OVER:
            return
        self._went_on()
        tally = work.op.tally
        size = sum(work.op.needed_bytes(part, work.body) for part in work.parts)
        tally.work_over(len(work.parts), seconds, heap, size, counters)
        tally.ran(work.node, work.submitted, work.began, self.now)
        self._end(work)

    def failed(self, work: Work, error: BaseException, cause: Cause) -> None:
        """It has failed. What crashed is tried again: each part alone, since any of them may have done it. A part
        that fails is left out, if that is allowed."""
        if work.state is WorkState.OVER:
            return
        self._went_on()
        op, most = work.op, self.settings.max_errored
        if work.at == len(work.parts):
            self._end(work)  # all was there before it failed
            return
        left = work.parts[work.at :]
        again = cause is Cause.CRASH or (cause is Cause.PART and self._is_retried(op, error))
        if again and self._may_try_again(work):
            begun = work.state is WorkState.BEGUN
            self._end(work, left)
            op.tally.retries += 1
            for one in left:
                self._begin_anew(work, [one], begun)
            return
        part, rest = left[0], left[1:]
        self._end(work, rest)
        if cause is Cause.SESSION or not most or 0 <= most <= self.errored or work.remakes:
            self._finish(with_part(op.explained(part, error), work.name))
            return
        self.errored += 1
        op.tally.errored += 1
        text = f"{work.name} failed and is left out ({self.errored} so far): {error}"
        self.actions.append(Report(text, op))
        if rest:
            self.recovery.again(Work(op, rest, work.body, work.wants_values))
        op.part_over(work, part)

    def lost(self, work: Work, blocks: Sequence[Block], error: BaseException) -> None:
        """It has failed, because these of its inputs are lost. They are made again, and then it is done again."""
        if work.state is WorkState.OVER:
            return
        self._went_on()
        if work.at == len(work.parts):
            self._end(work)  # all was there before it failed
            return
        left = work.parts[work.at :]
        self._end(work, left)
        if not self._may_start_again(work):
            self._finish(error)
            return
        if not all(self.recovery.is_needed_again(block) for block in blocks):
            self._finish(
                BlockLostError(
                    f"{work.name} needs a block that was lost with its node, and nothing makes it again: it was put "
                    "there (from_*, materialize() and split()), or its function may not run again. Read it from files, "
                    f"or write what is costly to files and go on from these. {error}"
                )
            )
            return
        work.op.tally.retries += 1
        self._begin_anew(work, left, False)

    def spilled(self, nbytes: int) -> None:
        """Tell the bytes that were spilled since the run began. Nothing says which objects these were. So new
        ones count for the operators whose blocks exist, by their bytes."""
        new, self._spilled = nbytes - self._spilled, nbytes
        total = sum(op.tally.live for op in self.ops)
        if new > 0 and total:
            for op in self.ops:
                op.tally.spilled += new * op.tally.live / total

    def actor_up(self, actor: Actor, node: str) -> None:
        """An actor takes calls."""
        if not actor.stopping:
            self._went_on()
            self.pools[actor.op.index].up(actor, node, self.now)

    def actor_lost(self, actor: Actor, error: BaseException, raised: bool = False) -> None:
        """An actor has ended, or did not begin: what it had is done again by others. ``raised``: its constructor."""
        pool = self.pools[actor.op.index]
        if self.finished or actor.stopping or actor.number not in pool.actors:
            return
        self._went_on()
        works = pool.gone(actor)
        self._count_actor(actor.op, -1)
        if not actor.is_up:
            pool.failed_inits += 1
            # A constructor that has raised does so again, as far as anybody knows.
            again = not raised or self.settings.init_retries
            if not again or pool.failed_inits > self.settings.init_attempts:
                self._finish(ActorsFailedError.of(actor.op.name, pool.failed_inits, error))
            return
        for work in works:
            if work.state is WorkState.OVER:
                continue
            begun = work.state is WorkState.BEGUN
            once = work.op.options.remote.get("max_retries") == 0
            if begun and (once or not self._may_try_again(work)):
                self.failed(work, error, Cause.PART if once else Cause.CRASH)
                if self.finished:
                    return
                continue
            left = work.parts[work.at :]
            self._end(work, left)
            if left:
                actor.op.tally.retries += begun
                self._begin_anew(work, left, begun)

    def awaited(self, block: Block, ref: Any, error: BaseException) -> None:
        """The consumer cannot read the next block that it is to take, by this reference. It is made again, and told by
        a `Found`; or the run fails."""
        self._went_on()
        if self.finished:
            return
        self.output.awaited = block
        if block.ref is not ref:
            self._found(block)  # that has happened meanwhile
        elif not self.recovery.is_needed_again(block):
            self._finish(error)

    def _found(self, block: Block) -> None:
        if block is self.output.awaited:
            self.output.awaited = None
            self.actions.append(Found(block))

    def taken(self, count: int) -> None:
        """The consumer has taken the next blocks."""
        self._went_on()
        for block in self.output.taken(count):
            self.release(block)

    def close(self) -> None:
        """The consumer wants no more."""
        self._finish(None)

    def fail(self, error: BaseException) -> None:
        """The run cannot go on: a source cannot be listed."""
        self._finish(error)

    # -------------------------------------------------------------- what operators ask for

    def release(self, block: Block) -> None:
        """See `Host`."""
        block.users -= 1
        if not block.users:
            if block.maker is not None:
                block.maker.live -= block.bytes
                block.maker = None
            if block.counts:
                self.budget.hold(block.node, -block.bytes)
                block.counts = False
            if block.origin is not None:
                self.recovery.unneeded(block)

    def forgo(self, block: Block) -> None:
        """See `Host`. What is kept to make it again counts no more either."""
        if block.counts:
            self.budget.hold(block.node, -block.bytes)
            block.counts = False
        if block.origin is not None:
            for one in block.origin.part.blocks:
                if one.counts:
                    self.forgo(one)

    def _moved(self, block: Block, node: str) -> None:
        if block.counts:
            self.budget.hold(block.node, -block.bytes)
            self.budget.hold(node, block.bytes)
        block.node = node

    def emit(self, block: Block) -> None:
        """See `Host`."""
        self.actions.append(Emit(block))

    def stop_inputs(self, op: Operator) -> None:
        """See `Host`."""
        for up in op.ups:
            self._stop(up)
        op.closed = [True] * op.ports

    # -------------------------------------------------------------- decisions

    def decide(self, now: float) -> list[Action]:
        """What is to be done, after any number of events."""
        self.now = now
        more = True
        while more and not self.finished:
            self._close_ports()
            more = not self.finished and (self._schedule() or self._relieve())
        if not self.finished and self.wait_until:
            self._look_for_actors()
        if not self.finished:
            self._look_for_stall()
        actions, self.actions = self.actions, []
        return actions

    def _close_ports(self) -> None:
        for op in self.ops:
            if op.told_over:
                continue
            if op.error is not None:
                self._finish(op.error)
                return
            if op.is_over:
                op.told_over = True
                self._explain(op, Wait.NOTHING)
                self._stop_actors(op)
                if op.down is None:
                    self._finish(None)
                    return
                op.down.close_port(op.down_port)

    # -------------------------------------------------------------- ends

    def _may_try_again(self, work: Work) -> bool:
        """A process that ends before it begins is not ended by what it was to do: that counts less. Of calls of actors
        the user may say how often they are tried again (``max_task_retries``; -1: without end)."""
        most: float = self.settings.attempts
        if work.op.index in self.pools and (own := work.op.options.remote.get("max_task_retries")) is not None:
            most = own if own >= 0 else math.inf
        return work.attempt < most and work.starts < STARTS * max(1, most)

    def _may_start_again(self, work: Work) -> bool:
        """Whether work that has not begun, as its inputs are lost, may wait for these: that is no attempt of it."""
        return work.starts < STARTS * max(1, self.settings.attempts)

    def _is_retried(self, op: Operator, error: BaseException) -> bool:
        """Whether a call of an actor that has raised this is to be tried again."""
        errors = self.settings.call_retries
        if op.index not in self.pools or not errors or op.options.remote.get("max_retries") == 0:
            return False
        # The error of the user is what the error of the call, and that of the function, came from.
        seen: BaseException | None = error
        while seen is not None and not isinstance(seen, errors):
            seen = seen.__cause__
        return seen is not None

    def _relieve(self) -> bool:
        """Whether work that waits for CPUs is to be submitted anew, without."""
        crowded = self.crowded
        if self.output.queued or not crowded.relieve(self.free, self.now, self.progress_at):
            return False
        if crowded.news:
            self.actions.append(Report(crowded.news))
            crowded.news = ""
        return True

    def _share_task(self, work: Work) -> None:
        left = work.parts[work.at :]
        self._end(work, left)
        self.actions.append(Cancel(work))
        self._begin_anew(work, left, False).shares = True

    def _share_actor(self, actor: Actor) -> None:
        self._stop_actor(actor)
        self._count_actor(actor.op, 1)
        anew = self.pools[actor.op.index].new(self.now)
        anew.shares = True
        self.actions.append(StartActor(anew))

    def _begin_anew(self, work: Work, parts: list[Part], begun: bool) -> Work:
        """These parts of it are to be done again. Of the one that it was at, blocks have come already."""
        anew = Work(work.op, parts, work.body, work.wants_values)
        anew.attempt, anew.starts, anew.remakes = work.attempt + begun, work.starts + 1, work.remakes
        anew.shares = work.shares
        if parts[0] is work.part and not work.op.takes_at_end:
            anew.digests, anew.replay = work.digests, len(work.digests)
        self.recovery.again(anew)
        return anew

    def _end(self, work: Work, left: Sequence[Part] = ()) -> None:
        """It runs no more. ``left``: parts whose inputs are needed again."""
        op = work.op
        work.state = WorkState.OVER
        op.running.pop(work.number, None)
        kept, work.kept = work.kept, []
        for block in kept:
            self.release(block)
        self.budget.reserve(work.node, -work.reserved, -work.heap)
        work.reserved = work.heap = 0
        if not work.paused:
            self._use(op, -1)
        pool = self.pools.get(op.index)
        if pool is not None:
            pool.done(work, self.now)
        for part in work.parts[: len(work.parts) - len(left)]:
            if work.remakes:
                self.recovery.part_made_again(part)
            else:
                self.recovery.part_ended(part)

    def _stop(self, op: Operator) -> None:
        """Nothing more is wanted of an operator, and of what is above it."""
        if op.stopped:
            return
        op.stopped = op.told_over = True
        for up in op.ups:
            self._stop(up)
        self._explain(op, Wait.NOTHING)
        for work in [*op.running.values()]:
            if not work.remakes:
                self._end(work)
                self.actions.append(Cancel(work))
        for work in [*op.again, *(one for one in op.held if not one.remakes)]:
            for part in work.parts:
                self.recovery.part_ended(part)
        op.again.clear()
        op.held = [one for one in op.held if one.remakes]
        for block in [*op.drop_all(), *op.order.clear()]:
            self.release(block)
        self._stop_actors(op)

    def _finish(self, error: BaseException | None) -> None:
        if self.finished:
            return
        for op in self.ops[:-1]:
            self._stop(op)
        for op in self.ops[:-1]:  # what is made again for others also in those that were over
            for work in [*op.running.values()]:
                self._end(work)
                self.actions.append(Cancel(work))
            op.remakes, op.held = [], []
            self._stop_actors(op)
        for block in self.output.drop_all():
            self.release(block)
        self.finished = True
        self.actions.append(Finish(error))

    def _changed(self, work: Work, what: str) -> None:
        self._finish(
            CutsChangedError(
                f"{work.name} ran again, and {what}: some rows would be there twice and others never. What a function "
                "gives must depend on its input alone, or be declared not to (repeatable=False)"
            )
        )

    # -------------------------------------------------------------- why nothing goes on

    def _went_on(self) -> None:
        self.progress_at = self.now

    def _user_code_runs(self) -> bool:
        """Whether a task is at work, which may take its time."""
        return any(work.state is WorkState.BEGUN and not work.paused for op in self.ops for work in op.running.values())

    def _look_for_actors(self) -> None:
        """Pools must have their least number of actors by a certain time."""
        short = [pool for pool in self.pools.values() if not pool.op.told_over and pool.waits_for_least()]
        if not short:
            self.wait_until = 0.0
        elif self.now >= self.wait_until:
            pool = short[0]
            text = f"{pool.op.name}: {pool.count - pool.starting} of {pool.pool.least} actors are up after "
            text += f"{self.settings.wait_actors_s:g} s (wait_for_min_actors_s): "
            text += why_no_actor(pool, self.free, self.now) or f"they want {needs(pool.op)} each"
            self._finish(GetTimeoutError(text))

    def _why_stands(self) -> str:
        return why_stands(self.ops, self.pools, self.why, self.free, self.now)

    def _look_for_stall(self) -> None:
        settings, still = self.settings, self.now - self.progress_at
        if still < settings.stall_s or self.output.queued:
            return
        if still >= settings.give_up_s and not self._user_code_runs():
            self._finish(StalledError(f"nothing has gone on for {still:.0f} s. {self._why_stands()}"))
        elif self.now - self._reported_at >= settings.stall_s * 3 and (text := self._why_stands()):
            self._reported_at = self.now
            self.actions.append(Report(text))

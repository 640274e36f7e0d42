"""The streaming executor: told of events, it leaves actions. No clock, socket, thread or random number.

It keeps to the budget, gives room to what is nearest the consumer first, and always has something run. Where nothing
below an operator runs, waits or is left to be consumed, the operator may exceed the budget by one block.

Each event costs what it changes. `decide` looks once at each operator, not at its tasks or blocks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from hpc.data.block.meta import BlockMeta
from hpc.data.exec.actions import Action, Cancel, Emit, Finish, Pull, Report, StartActor, StopActor, Submit, Take
from hpc.data.exec.budget import Budget, NodeRoom
from hpc.data.exec.errors import CutsChangedError, StalledError
from hpc.data.exec.operators import Operator
from hpc.data.exec.operators.maps import BlocksOperator, LimitOperator, OutputOperator, ReadOperator
from hpc.data.exec.pool import ActorSet
from hpc.data.exec.settings import TYPICAL_BLOCK_BYTES, RunSettings
from hpc.data.exec.stall import why_stands
from hpc.data.exec.waits import Wait
from hpc.data.exec.work import BLOCK_OVERHEAD, Actor, Block, Part, Work, WorkState

#: A task has as many parts as take about so long together, and at most so many.
WORK_S, MOST_PARTS = 0.02, 64
#: Tasks that are shorter than this wait in a queue before the CPUs, so that none of them has to wait for us.
SHORT_S = 0.05
#: Small blocks are made ahead until they have so many bytes together, and at most so many.
AHEAD_BYTES, MOST_AHEAD = 8 << 20, 64
#: At most so many blocks wait for the consumer, whatever their bytes.
MOST_QUEUED = 4096


class Machine:
    """One run. ``ops``: inputs before what uses them, the `OutputOperator` last."""

    def __init__(self, ops: Sequence[Operator], settings: RunSettings, queued_per_actor: int | None = None) -> None:
        self.ops = list(ops)
        self.settings = settings
        self.budget = Budget()
        self.actions: list[Action] = []
        self.finished = False
        #: Something waits for room, or for the consumer: that it takes blocks is an event.
        self.held_back = False
        self.errored = 0
        self.now = 0.0
        #: When anything last went on.
        self.progress_at = 0.0
        self.output = self.ops[-1]
        assert isinstance(self.output, OutputOperator)
        self.pools: dict[int, ActorSet] = {}
        self._offered: list[deque[Work]] = []
        #: Operators with offers that were not looked at yet.
        self._fresh: set[int] = set()
        self._cpu = self._gpu = 0.0
        self._pool_cpu = self._pool_gpu = 0.0
        self._next_work = 0
        self._why: list[tuple[Wait, float]] = []
        self._reported_at = 0.0
        for index, op in enumerate(self.ops):
            op.index, op.host = index, self
            self._offered.append(deque())
            self._why.append((Wait.NOTHING, 0.0))
            if op.pool is not None:
                self.pools[index] = ActorSet(op, op.pool, queued_per_actor)

    # -------------------------------------------------------------- events

    def start(self, rooms: dict[str, NodeRoom], now: float) -> None:
        """The run begins on these nodes."""
        self.now = self.progress_at = self._reported_at = now
        self.nodes(rooms)
        for op in self.ops:
            if isinstance(op, LimitOperator):
                op.begin()

    def nodes(self, rooms: dict[str, NodeRoom]) -> None:
        """These nodes are there now."""
        use = self.settings
        cpus = min(use.cpu_limit, sum(room.cpus for room in rooms.values()) - use.exclude_cpus)
        gpus = min(use.gpu_limit, sum(room.gpus for room in rooms.values()) - use.exclude_gpus)
        self.budget.set_nodes(rooms, cpus, gpus, use.store_limit)

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

    def block(self, work: Work, ref: Any, meta: BlockMeta, note: Any = None, value: Any = None) -> None:
        """A block has come of the part at hand."""
        if work.state is WorkState.OVER:
            return
        self._went_on()
        op = work.op
        mark = (meta.rows, meta.digest)
        if meta.first != work.rows:
            self._changed(work, f"{meta.first} rows came before block {work.seen}, not {work.rows}")
            return
        if work.seen < work.replay:
            if work.digests[work.seen] != mark:
                self._changed(work, f"block {work.seen} has {meta.rows} rows, not {work.digests[work.seen][0]}")
                return
            work.seen += 1
            work.rows += meta.rows
            return
        work.digests.append(mark)
        work.seen += 1
        work.rows += meta.rows
        block = Block(ref, meta, work.node, note, value)
        block.counts = True
        op.tally.block(meta.rows, meta.nbytes)
        self.budget.hold(block.node, block.bytes)
        op.made(work, block)

    def part_over(self, work: Work) -> None:
        """The part at hand has given all of its blocks."""
        if work.state is WorkState.OVER:
            return
        if work.seen < work.replay:
            self._changed(work, f"it gave {work.seen} blocks, not at least {work.replay}")
            return
        part = work.part
        work.next_part()
        work.op.part_over(work, part)

    def over(self, work: Work, seconds: float, heap: int, counters: dict[str, float]) -> None:
        """A piece of work has ended well. ``heap``: by so much its process grew."""
        if work.state is WorkState.OVER:
            return
        self._went_on()
        size = sum(block.bytes for block in work.blocks) or int(work.op.tally.mean_block)
        work.op.tally.work_over(len(work.parts), seconds, heap, size, counters)
        self._end(work)

    def failed(self, work: Work, error: BaseException, tolerable: bool, is_part: bool = True) -> None:
        """It has failed. ``tolerable``: by the user's code or data, so that the part may be left out if that is
        allowed. ``is_part``: by the part at hand; else it may have been any that is left, and each is tried alone."""
        if work.state is WorkState.OVER:
            return
        self._went_on()
        op, most = work.op, self.settings.max_errored
        if work.at == len(work.parts):
            self._end(work)  # all was there before it failed
            return
        left = work.parts[work.at :]
        if not is_part and len(left) > 1 and tolerable:
            self._end(work, left)
            for one in left:
                anew = Work(op, [one], work.body, work.wants_values)
                if one is left[0]:
                    anew.digests, anew.replay = work.digests, len(work.digests)
                self._again(anew)
            return
        part, rest = left[0], left[1:]
        self._end(work, rest)
        if not tolerable or not most or 0 <= most <= self.errored:
            self._finish(error)
            return
        self.errored += 1
        op.tally.errored += 1
        text = f"{work.name} failed and is left out ({self.errored} so far): {error}"
        self.actions.append(Report(text, op))
        if rest:
            self._again(Work(op, rest, work.body, work.wants_values))
        op.part_over(work, part)

    def actor_up(self, actor: Actor, node: str) -> None:
        """An actor takes calls."""
        if not actor.stopping:
            self._went_on()
            self.pools[actor.op.index].up(actor, node, self.now)

    def actor_lost(self, actor: Actor, error: BaseException) -> None:
        """An actor has ended, or did not begin: what it had is done again by others."""
        pool = self.pools[actor.op.index]
        if self.finished or actor.stopping or actor.number not in pool.actors:
            return
        self._went_on()
        works = pool.gone(actor)
        self._count_actor(actor.op, -1)
        if not actor.is_up:
            pool.failed_inits += 1
            if pool.failed_inits > self.settings.init_attempts:
                self._finish(error)
            return
        for work in works:
            if work.state is WorkState.OVER:
                continue
            was_begun = work.state is WorkState.BEGUN
            if was_begun and work.attempt >= self.settings.attempts:
                self.failed(work, error, tolerable=True)
                if self.finished:
                    return
                continue
            left = work.parts[work.at :]
            self._end(work, left)
            if left:
                anew = Work(actor.op, left, work.body, work.wants_values)
                anew.attempt = work.attempt + was_begun
                anew.digests, anew.replay = work.digests, len(work.digests)
                actor.op.tally.retries += 1
                self._again(anew)

    def taken(self, count: int) -> None:
        """The consumer has taken the next blocks."""
        assert isinstance(self.output, OutputOperator)
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
        if not block.users and block.counts:
            self.budget.hold(block.node, -block.bytes)
            block.counts = False

    def forgo(self, block: Block) -> None:
        """See `Host`."""
        if block.counts:
            self.budget.hold(block.node, -block.bytes)
            block.counts = False

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
            more = not self.finished and self._schedule()
        if not self.finished:
            self._look_for_stall()
        actions, self.actions = self.actions, []
        return actions

    def _close_ports(self) -> None:
        for op in self.ops:
            if op.told_over:
                continue
            error = getattr(op, "error", None)
            if error is not None:
                self._finish(error)
                return
            if op.is_over:
                op.told_over = True
                self._explain(op, Wait.NOTHING)
                self._stop_actors(op)
                if op.down is None:
                    self._finish(None)
                    return
                op.down.close_port(op.down_port)

    def _schedule(self) -> bool:
        """Downstream first: what is nearer the consumer gets room before what feeds it. Whether there may be more to do
        at once."""
        output = self.output
        assert isinstance(output, OutputOperator)
        self.held_back = False
        count = len(self.ops)
        quiet, wanted = [False] * count, [False] * count
        quiet[-1] = not output.queued
        wanted[-1] = len(output.queued) < MOST_QUEUED and output.bytes <= self.budget.limit // 2
        for op in reversed(self.ops):
            down = op.down
            if op.told_over:
                continue
            if down is not None:
                at = down.index
                quiet[op.index] = quiet[at] and not down.running and not down.waiting() and not down.again
                wanted[op.index] = wanted[at] and down.wants(op.down_port)
                if isinstance(op, BlocksOperator):
                    if wanted[op.index] and down.waiting() < MOST_PARTS and not op.closed[0]:
                        op.give(MOST_PARTS)
                        return True
                    continue
                self._take_offers(op, quiet[op.index])
                self._submit_all(op, quiet[op.index], wanted[op.index])
        return False

    def _take_offers(self, op: Operator, quiet: bool) -> None:
        offers = self._offered[op.index]
        if not offers:
            return
        fresh = op.index in self._fresh
        self._fresh.discard(op.index)
        block, free = self._block_size(op), self.budget.free
        any_one = quiet and self._head_waits(op)
        # What keeps all of its input takes the next block in any case: it counts for no budget there.
        kept = op.down is not None and op.down.hoards
        refused: list[Work] = []
        while offers:
            work = offers.popleft()
            if work.state is WorkState.OVER or not work.offered:
                continue
            must = (quiet and (any_one or op.is_head(work))) or (kept and op.is_head(work))
            if free < work.offer and not must:
                refused.append(work)
                if not work.paused:
                    work.paused = True
                    self._use(op, -1)
                if not fresh and not quiet:
                    break
                continue
            work.offered = False
            if work.paused:
                work.paused = False
                self._use(op, 1)
            most = 1 + max(0, min(work.window, (free - work.offer) // block))
            free -= work.offer + (most - 1) * block
            any_one = False
            self.actions.append(Take(work, most))
        offers.extendleft(reversed(refused))
        self.held_back = self.held_back or bool(refused)

    def _head_waits(self, op: Operator) -> bool:
        """Whether what others wait for is to be done again, and has not begun."""
        return bool(op.again) and op.again[0].parts[0].seq <= op.order.head

    def _submit_all(self, op: Operator, quiet: bool, wanted: bool) -> None:
        if isinstance(op, ReadOperator) and wanted:
            self._pull(op)
        if op.index in self.pools:
            self._scale(op)
        why = Wait.NOTHING
        while op.again or op.waiting():
            if not wanted:
                why = Wait.CONSUMER
                self.held_back = True
                break
            why = self._submit(op, quiet)
            if why is not Wait.NOTHING:
                break
        else:
            why = Wait.NOTHING if op.running else op.why_waits()
        self._explain(op, why)

    def _pull(self, op: ReadOperator) -> None:
        least = self._parts_for(op) * 2 * max(1, self._slots(op))
        if not op.asked and not op.closed[0] and len(op.parts) < least:
            op.asked = True
            self.actions.append(Pull(op, max(16, 2 * least)))

    def _submit(self, op: Operator, quiet: bool) -> Wait:
        """Begin the operator's next piece of work. Returns what that waits for, if it cannot begin."""
        use, budget, pool = op.options, self.budget, self.pools.get(op.index)
        if use.concurrency is not None and pool is None and len(op.running) >= use.concurrency:
            return Wait.CONCURRENCY
        if pool is None:
            if op.running and not self._has_slot(op):
                return Wait.GPU if use.num_gpus else Wait.CPU
        elif pool.choose("") is None:
            return Wait.NEW_ACTOR if pool.starting else Wait.BUSY_ACTORS
        block = self._block_size(op)
        ahead = self._ahead(block)
        need, heap = ahead * block, self._heap(op, block)
        if op.hoards:
            need = 0
        if not budget.fits(need, heap):
            if not quiet or (op.running and not self._head_waits(op)):
                self.held_back = True
                return Wait.STORE if budget.free < need else Wait.HEAP
            ahead, need = 1, block  # something must run
        work = op.again.pop(0) if op.again else op.take_work(self._parts_for(op))
        near = work.part.near
        node = budget.best_node(need, heap, near) or near
        work.number, self._next_work = self._next_work, self._next_work + 1
        actor = None if pool is None else pool.choose(near)
        if pool is not None and actor is not None:
            node = actor.node
            pool.give(actor, work)
        work.window, work.reserved, work.heap, work.node = ahead, need, heap, node
        work.submitted = self.now
        budget.reserve(node, need, heap)
        op.running[work.number] = work
        op.tally.submitted += 1
        self._use(op, 1)
        self.actions.append(Submit(work, node, ahead))
        return Wait.NOTHING

    # -------------------------------------------------------------- sizes

    def _block_size(self, op: Operator) -> int:
        """What a block of it may have, as far as is known: blocks of one operator differ by this factor."""
        most = self.settings.target_bytes or TYPICAL_BLOCK_BYTES
        if op.tally.blocks:
            return max(op.tally.largest, min(2 * op.tally.largest, most)) + BLOCK_OVERHEAD
        return most + BLOCK_OVERHEAD

    def _ahead(self, block: int) -> int:
        return max(2, min(MOST_AHEAD, AHEAD_BYTES // max(1, block)))

    def _heap(self, op: Operator, block: int) -> int:
        if op.options.memory is not None:
            return op.options.memory
        return int(max(1.0, op.tally.heap_factor) * 2 * block)

    def _parts_for(self, op: Operator) -> int:
        """How many parts one piece of work has: many, where each takes no time."""
        tally = op.tally
        if not tally.parts:
            return 1
        fair = -(-op.waiting() // max(1, self._slots(op)))
        return max(1, min(MOST_PARTS, int(WORK_S / max(1e-6, tally.mean_part_s)), fair))

    def _slots(self, op: Operator) -> int:
        pool = self.pools.get(op.index)
        if pool is not None:
            return pool.count * pool.pool.concurrent
        use = op.options
        slots = self.budget.cpus / use.num_cpus if use.num_cpus else self.budget.cpus
        return int(min(slots, self.budget.gpus / use.num_gpus) if use.num_gpus else slots)

    def _has_slot(self, op: Operator) -> bool:
        use, tally = op.options, op.tally
        cpu, gpu = self._cpu_of(op), use.num_gpus or 0.0
        short = tally.parts > 0 and tally.mean_part_s < SHORT_S
        cpus = self.budget.cpus * (2 if short else 1)
        has_gpu = not gpu or self._gpu + self._pool_gpu + gpu <= self.budget.gpus
        return has_gpu and self._cpu + self._pool_cpu + cpu <= cpus

    def _cpu_of(self, op: Operator) -> float:
        use = op.options
        return (0.0 if use.num_gpus else 1.0) if use.num_cpus is None else use.num_cpus

    def _use(self, op: Operator, times: int) -> None:
        if op.index not in self.pools:
            self._cpu += times * self._cpu_of(op)
            self._gpu += times * (op.options.num_gpus or 0.0)

    # -------------------------------------------------------------- actors

    def _scale(self, op: Operator) -> None:
        pool = self.pools[op.index]
        waiting = op.waiting() + len(op.again)
        ended = all(op.closed) and not waiting
        if not ended:
            for _ in range(pool.wanted(waiting, self._room_for_actors(op))):
                self._count_actor(op, 1)
                self.actions.append(StartActor(pool.new()))
        for actor in pool.spare(self.now, ended):
            self._stop_actor(actor)

    def _room_for_actors(self, op: Operator) -> int:
        """How many more actors fit, if each operator that runs tasks keeps what one task of it needs."""
        tasks = [o for o in self.ops if not o.told_over and o.index not in self.pools and (o.bodies or o.running)]
        cpu, gpu = self._cpu_of(op), op.options.num_gpus or 0.0
        kept = max((self._cpu_of(o) for o in tasks), default=0.0)
        rooms = []
        if cpu:
            rooms.append((self.budget.cpus - self._pool_cpu - kept) / cpu)
        if gpu:
            rooms.append((self.budget.gpus - self._pool_gpu) / gpu)
        return max(0, int(min(rooms, default=MOST_PARTS)))

    def _count_actor(self, op: Operator, times: int) -> None:
        self._pool_cpu += times * self._cpu_of(op)
        self._pool_gpu += times * (op.options.num_gpus or 0.0)

    def _stop_actor(self, actor: Actor) -> None:
        actor.stopping = True
        self.pools[actor.op.index].gone(actor)
        self._count_actor(actor.op, -1)
        self.actions.append(StopActor(actor))

    def _stop_actors(self, op: Operator) -> None:
        pool = self.pools.get(op.index)
        if pool is not None:
            for actor in list(pool.actors.values()):
                self._stop_actor(actor)

    # -------------------------------------------------------------- ends

    def _again(self, work: Work) -> None:
        """It is done before all that was not begun, in the order of parts."""
        again = work.op.again
        again.append(work)
        again.sort(key=lambda one: one.parts[0].seq)

    def _end(self, work: Work, left: Sequence[Part] = ()) -> None:
        """It runs no more. ``left``: parts whose inputs are needed again."""
        op = work.op
        work.state = WorkState.OVER
        op.running.pop(work.number, None)
        self.budget.reserve(work.node, -work.reserved, -work.heap)
        work.reserved = work.heap = 0
        if not work.paused:
            self._use(op, -1)
        pool = self.pools.get(op.index)
        if pool is not None:
            pool.done(work, self.now)
        for part in work.parts[: len(work.parts) - len(left)]:
            for block in part.blocks:
                self.release(block)

    def _stop(self, op: Operator) -> None:
        """Nothing more is wanted of an operator, and of what is above it."""
        if op.stopped:
            return
        op.stopped = op.told_over = True
        for up in op.ups:
            self._stop(up)
        self._explain(op, Wait.NOTHING)
        for work in [*op.running.values()]:
            self._end(work)
            self.actions.append(Cancel(work))
        for work in op.again:
            for block in work.blocks:
                self.release(block)
        op.again.clear()
        for block in [*op.drop_all(), *op.order.clear()]:
            self.release(block)
        self._stop_actors(op)

    def _finish(self, error: BaseException | None) -> None:
        if self.finished:
            return
        for op in self.ops[:-1]:
            self._stop(op)
        for block in self.output.drop_all():
            self.release(block)
        self.finished = True
        self.actions.append(Finish(error))

    def _changed(self, work: Work, what: str) -> None:
        self._finish(
            CutsChangedError(
                f"{work.name} ran again, and {what}: some rows would be there twice and others never. What a function "
                "gives must depend on its input alone, or it must not be tried again (max_retries=0)"
            )
        )

    # -------------------------------------------------------------- why nothing goes on

    def _went_on(self) -> None:
        self.progress_at = self.now

    def _explain(self, op: Operator, why: Wait) -> None:
        before, since = self._why[op.index]
        if why is not before:
            if before is not Wait.NOTHING:
                waits = op.tally.waits
                waits[before] = waits.get(before, 0.0) + self.now - since
            self._why[op.index] = (why, self.now)

    def why(self, op: Operator) -> Wait:
        """What the operator waits for now."""
        return self._why[op.index][0]

    def _look_for_stall(self) -> None:
        settings, still = self.settings, self.now - self.progress_at
        if still < settings.stall_s or self.output.queued:  # type: ignore[attr-defined]
            return
        if still >= settings.give_up_s:
            self._finish(
                StalledError(f"nothing has gone on for {still:.0f} s. {why_stands(self.ops, self.pools, self.why)}")
            )
        elif self.now - self._reported_at >= settings.stall_s * 3 and (
            text := why_stands(self.ops, self.pools, self.why)
        ):
            self._reported_at = self.now
            self.actions.append(Report(text))

"""What is begun and taken, and when: downstream first, within the budget, and never so that nothing goes on."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from hpc.data.exec.actions import Action, Pull, StartActor, StopActor, Submit, Take
from hpc.data.exec.budget import Budget
from hpc.data.exec.operators import Operator
from hpc.data.exec.operators.maps import BlocksOperator, OutputOperator, ReadOperator
from hpc.data.exec.pool import ActorSet
from hpc.data.exec.settings import TYPICAL_BLOCK_BYTES, RunSettings
from hpc.data.exec.stall import Free
from hpc.data.exec.waits import Wait
from hpc.data.exec.work import BLOCK_OVERHEAD, Actor, Work, WorkState

#: A task has as many parts as take about so long together, and at most so many.
WORK_S, MOST_PARTS = 0.02, 64
#: Tasks that are shorter than this wait in a queue before the CPUs, so that none of them has to wait for us.
SHORT_S = 0.1
#: Small blocks are made ahead until they have so many bytes together, and at most so many.
AHEAD_BYTES, MOST_AHEAD = 8 << 20, 64
#: At most so many blocks wait for the consumer, whatever their bytes.
MOST_QUEUED = 4096


class Scheduler:
    """The state of a run, and what decides on it. ``ops``: inputs before what uses them, the `OutputOperator` last."""

    def __init__(self, ops: Sequence[Operator], settings: RunSettings, queued_per_actor: int | None = None) -> None:
        self.ops = list(ops)
        self.settings = settings
        self.budget = Budget()
        self.actions: list[Action] = []
        self.finished = False
        #: Something waits for room, or for the consumer: that it takes blocks is an event.
        self.held_back = False
        #: What each node has free, and in all, as far as it was looked at.
        self.free: Free = ()
        self.errored = 0
        self.now = 0.0
        #: When anything last went on.
        self.progress_at = 0.0
        output = self.ops[-1]
        assert isinstance(output, OutputOperator)
        self.output: OutputOperator = output
        self.pools: dict[int, ActorSet] = {}
        self._offered: list[deque[Work]] = []
        #: Operators with offers that were not looked at yet.
        self._fresh: set[int] = set()
        self._cpu = self._gpu = 0.0
        self._pool_cpu = self._pool_gpu = 0.0
        self._next_work = 0
        self._why: list[tuple[Wait, float]] = []
        self._reported_at = 0.0
        #: Pools give no work before their least number of actors is up; the run fails then. 0: they do not wait.
        self.wait_until = 0.0
        for index, op in enumerate(self.ops):
            op.index = index
            self._offered.append(deque())
            self._why.append((Wait.NOTHING, 0.0))
            if op.pool is not None:
                self.pools[index] = ActorSet(op, op.pool, queued_per_actor, settings)

    def _schedule(self) -> bool:
        """Downstream first: what is nearer the consumer gets room before what feeds it. Whether there may be more to do
        at once."""
        output = self.output
        self.held_back = False
        count = len(self.ops)
        quiet, wanted = [False] * count, [False] * count
        quiet[-1] = not output.queued
        wanted[-1] = len(output.queued) < MOST_QUEUED and output.bytes <= self.budget.limit // 2
        for op in reversed(self.ops):
            down = op.down
            if op.told_over:
                if op.remakes or op.running or (op.index in self.pools and self.pools[op.index].actors):
                    self._take_offers(op, True)
                    self._submit_remakes(op)
                continue
            if down is not None:
                at = down.index
                # What is held below may wait for blocks of the very part that is done again here.
                held = down.held and not self._head_waits(op) and not any(map(op.is_head, op.running.values()))
                idle = not down.running and not down.waiting() and not down.again and not held
                quiet[op.index] = quiet[at] and idle and down.needs(op.down_port)
                wanted[op.index] = wanted[at] and down.wants(op.down_port)
                if isinstance(op, BlocksOperator):
                    if wanted[op.index] and down.waiting() < MOST_PARTS and not op.closed[0]:
                        op.give(MOST_PARTS)
                        return True
                    if not wanted[op.index] and not op.closed[0]:
                        self.held_back = True
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
            must = must or work.remakes  # what it makes again counts already
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
        if op.remakes:
            self._submit_remakes(op)
        elif op.index in self.pools:
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
        elif self.wait_until and pool.waits_for_least():
            return Wait.NEW_ACTOR
        elif pool.choose("") is None:
            return Wait.NEW_ACTOR if pool.starting else Wait.BUSY_ACTORS
        elif op.running and not pool.has_idle and self._head_waits(op):
            return Wait.BUSY_ACTORS  # those may wait for room, which comes when this has been done
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
        self._begin(op, op.again.pop(0) if op.again else op.take_work(self._parts_for(op)), ahead, need, heap)
        return Wait.NOTHING

    def _submit_remakes(self, op: Operator) -> None:
        """What is lost is made again ahead of all, whether or not more of the operator is wanted: work waits for it."""
        pool = self.pools.get(op.index)
        if pool is not None:
            self._scale(op)
        while op.remakes:
            if pool.choose("") is None if pool is not None else op.running and not self._has_slot(op):
                return
            self._begin(op, op.remakes.pop(0), 2, 0, 0)

    def _begin(self, op: Operator, work: Work, ahead: int, need: int, heap: int) -> None:
        budget, pool = self.budget, self.pools.get(op.index)
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
        self.actions.append(Submit(work, ahead))

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
        again = op.again[0] if op.again else None
        part = op.head_part() if again is None else again.part
        size = 0 if part is None else op.needed_bytes(part, op.next_body if again is None else again.body)
        return op.tally.heap(size, block)

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
        waiting = op.waiting() + len(op.again) + len(op.remakes)
        ended = (op.told_over or all(op.closed)) and not waiting and not op.held
        if not ended:
            for _ in range(pool.wanted(waiting, self._room_for_actors(op), op.tally.mean_part_s, all(op.closed))):
                self._count_actor(op, 1)
                self.actions.append(StartActor(pool.new(self.now)))
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

    # -------------------------------------------------------------- what it waits for

    def _explain(self, op: Operator, why: Wait) -> None:
        before, since = self._why[op.index]
        if why is not before:
            if before is not Wait.NOTHING:
                waits = op.tally.waits
                waits[before] = waits.get(before, 0.0) + self.now - since
            self._why[op.index] = (why, self.now)

    @property
    def cpus_used(self) -> float:
        """CPUs that tasks and actors of the run have."""
        return self._cpu + self._pool_cpu

    @property
    def gpus_used(self) -> float:
        """GPUs that they have."""
        return self._gpu + self._pool_gpu

    def why(self, op: Operator) -> Wait:
        """What the operator waits for now."""
        return self._why[op.index][0]

"""The one thread of a run: it brings events to the machine, and does what the machine wants. It decides nothing.

It sleeps until something comes: an item of a task, an actor, parts of a source, or the consumer that has made room.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import hpc
from hpc import spi
from hpc.data.exec.actions import Action, Cancel, Emit, Finish, Found, Pull, Report, StartActor, StopActor, Submit, Take
from hpc.data.exec.bodies import PoolActor, task_function
from hpc.data.exec.crowded import DOUBT_S, PATIENCE_S
from hpc.data.exec.feeder import Feeder
from hpc.data.exec.machine import Machine
from hpc.data.exec.operators import Operator
from hpc.data.exec.progress import Progress
from hpc.data.exec.rooms import Memory, environment_is_made, first_rooms, rooms_of_session, workers_start
from hpc.data.exec.runs import RUNS
from hpc.data.exec.streams import TaskStream
from hpc.data.exec.telling import DataTelling
from hpc.data.exec.work import Actor, Block, Work, WorkState
from hpc.data.io.source import SourceTask
from hpc.exceptions import ActorError
from hpc.util.scheduling_strategies import NodeAffinitySchedulingStrategy

#: The thread looks after stalls, idle actors and new nodes this often.
TICK_S = 5.0
#: A run that lasts longer is told to other processes; and so often it looks whether they have runs.
TOLD_S, LOOK_S = 0.05, 0.1
#: Tasks that are cancelled at the end of a run have so long to end.
ENDS_S = 2.0
#: Keys of what is watched begin with one of these.
_WORK, _ACTOR = 0, 1


class Consumer(Protocol):
    """Where blocks go. ``waited_s``: for so long nobody could go on without one."""

    waited_s: float

    def give(self, block: Block) -> None:
        """A block has come."""

    def given(self) -> None:
        """All blocks that there are for now have come."""

    def found(self) -> None:
        """The block that it could not read is there again."""

    def end(self, error: BaseException | None) -> None:
        """The run is over."""


class Shell:
    """Runs a machine. ``consumer`` gets the blocks, and the error of the run (None: it has ended well).

    share: the part of the session's store that the run may use now."""

    def __init__(
        self,
        machine: Machine,
        context: Any,
        consumer: Consumer,
        share: Callable[[], float],
        progress: Progress,
    ) -> None:
        self.machine = machine
        self._context = context
        self._give, self._given, self._end, self._share = consumer.give, consumer.given, consumer.end, share
        self._found = consumer.found
        self._progress = progress
        self._arrivals = spi.arrivals()
        self._streams: dict[int, TaskStream] = {}
        self._actors: dict[tuple[int, int], Any] = {}
        self._starting: dict[tuple[int, int], tuple[Actor, Any]] = {}
        #: What was cancelled, and has not ended: see `_see_errors`.
        self._dropped: list[Any] = []
        self._functions: dict[tuple[int, str, int, str, bool], Any] = {}
        self._feeders: dict[int, Feeder] = {}
        #: What other threads bring: calls that this thread makes.
        self._brought: deque[Callable[[], None]] = deque()
        #: How many blocks the consumer has taken, in all, and as the machine knows.
        self.taken = self._told_taken = 0
        self._sleeps = False
        self._finished = False
        self._next_tick = self._next_look = 0.0
        #: It is to be looked again then whether work has workers.
        self._again_at = 0.0
        #: What the nodes have left, and what their stores move.
        self.memory = Memory()
        self._telling = DataTelling(machine, progress, self.memory, lambda: consumer.waited_s)
        #: What other processes know this run by; "" for one that has just begun.
        self._key = ""
        self._thread = threading.Thread(target=self._run, name="hpc-data", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    # -------------------------------------------------------------- from other threads

    def took(self) -> None:
        """The consumer has taken a block. The thread hears of it at once only where it waits for room."""
        self.taken += 1
        if self._sleeps and self.machine.held_back:
            self._arrivals.poke()

    def awaits(self, block: Block, ref: Any, error: BaseException) -> None:
        """The consumer cannot read the next block by this reference."""
        self.bring(lambda: self.machine.awaited(block, ref, error))

    def bring(self, event: Callable[[], None]) -> None:
        """Have the thread make a call."""
        self._brought.append(event)
        self._arrivals.poke()

    def close(self, interrupted: bool = False) -> None:
        """End the run. interrupted: since its user has interrupted the program."""
        self._progress.interrupted, self._progress.closed = interrupted, True
        self.bring(self.machine.close)

    # -------------------------------------------------------------- the thread

    def _run(self) -> None:
        spi.begin_none()
        try:
            rooms = first_rooms(self._store_share(), self.memory)
            RUNS.prepare(self.machine.crowded)
            self.machine.start(rooms, time.monotonic())
            self._progress.begin(self.machine, time.monotonic())
            self._next_tick = time.monotonic() + TOLD_S
            while not self._finished:
                self._decide()
                if not self._finished:
                    self._sleep()
            if self._dropped:
                with contextlib.suppress(Exception):  # the session may end meanwhile
                    self._see_errors(ENDS_S)
        except BaseException as error:
            self._finished = True
            if not hpc.is_initialized():  # a program that is interrupted ends its session while its runs go on
                self._progress.interrupted = True
            self._progress.ended(self.machine, time.monotonic(), error)
            self._telling.end(error)
            self._end_all()
            self._end(error)
        finally:
            for feeder in self._feeders.values():
                feeder.stop()
            self._streams.clear()
            if self._key:
                RUNS.withdraw(self._key)

    def _end_all(self) -> None:
        """The thread itself has failed: nothing that it has begun goes on without it."""
        for stream in list(self._streams.values()):
            with contextlib.suppress(Exception):
                hpc.cancel(stream.generator)
        for key in list(self._actors):
            with contextlib.suppress(Exception):
                hpc.kill(self._actors.pop(key))

    def _decide(self) -> None:
        """Until nothing is to be done: what is done may bring events at once."""
        machine = self.machine
        while True:
            actions = machine.decide(time.monotonic())
            if not actions:
                return
            for action in actions:
                self._do(action)
            self._given()

    def _sleep(self) -> None:
        machine = self.machine
        self._sleeps = True
        if self.taken != self._told_taken or self._brought:
            keys: list[Any] = []
        else:
            keys = self._arrivals.next(max(0.0, self._wake_at() - time.monotonic()))
        self._sleeps = False
        machine.now = time.monotonic()
        if machine.wait_until and machine.now >= machine.wait_until:
            self._look_at_actors(machine.now)
        if machine.now >= self._next_tick:
            self._tick(machine.now)
        if self._key and machine.now >= self._next_look:
            self._next_look = machine.now + LOOK_S
            reserved = {name: use.heap for name, use in machine.budget.nodes.items()}
            answered = self.memory.look(machine.now, reserved)
            if answered:
                machine.spilled(self.memory.moved(0.0).spilled)
            if answered | RUNS.look():
                machine.nodes(self._rooms())
        for key in keys:
            if key[0] == _WORK:
                stream = self._streams.get(key[1])
                if stream is not None:
                    self._read(stream)
            else:
                self._actor_began(key[1])
        if machine.crowded.is_due(machine.now, machine.progress_at):
            self._look_for_workers(machine.now)
        # After what has come: with an end of the run all work is over, and its streams stay until they are cancelled.
        while self._brought:
            self._brought.popleft()()
        taken = self.taken
        if taken != self._told_taken:
            machine.taken(taken - self._told_taken)
            self._told_taken = taken

    def _wake_at(self) -> float:
        machine, until = self.machine, self.machine.wait_until
        due = machine.progress_at + machine.crowded.patience_s
        due = due if due > machine.now else self._again_at
        at = min(self._next_tick, due) if due > machine.now else self._next_tick
        return min(at, until) if until else at

    def _tick(self, now: float) -> None:
        self._next_tick = now + TICK_S
        if not self._key:
            self._key = RUNS.announce()
            self._telling.begin()
        RUNS.sweep(now)
        if self._dropped:
            self._see_errors(0.0)
        self._look_at_actors(now)
        self.machine.nodes(self._rooms())

    def _rooms(self) -> Any:
        return rooms_of_session(self._store_share(), self.memory)

    def _store_share(self) -> float:
        return self.machine.settings.store_share * self._share()

    # -------------------------------------------------------------- actions

    def _do(self, action: Action) -> None:
        kind = type(action)
        if kind is Submit:
            self._submit(action)  # type: ignore[arg-type]
        elif kind is Take:
            stream = self._streams.get(action.work.number)  # type: ignore[union-attr]
            if stream is not None:
                stream.allowed = action.most  # type: ignore[union-attr]
                self._read(stream)
        elif kind is Emit:
            self._give(action.block)  # type: ignore[union-attr]
        elif kind is Cancel:
            self._cancel(action.work)  # type: ignore[union-attr]
        elif kind is Pull:
            self._pull(action)  # type: ignore[arg-type]
        elif kind is StartActor:
            self._start_actor(action.actor)  # type: ignore[union-attr]
        elif kind is StopActor:
            self._stop_actor(action.actor)  # type: ignore[union-attr]
        elif kind is Found:
            self._found()
        elif kind is Report:
            self._progress.say(action.text)  # type: ignore[union-attr]
        elif kind is Finish:
            self._finished = True
            RUNS.crowded = self.machine.crowded.is_on
            self.memory.end()
            self._progress.ended(self.machine, time.monotonic(), action.error)  # type: ignore[union-attr]
            self._telling.end(action.error)  # type: ignore[union-attr]
            self._end(action.error)  # type: ignore[union-attr]

    def _submit(self, action: Submit) -> None:
        work = action.work
        if work.state is WorkState.OVER:  # its actor was found dead by an action before this one
            return
        header = (work.attempt, [(part.seq, len(part.blocks), part.unit, part.note) for part in work.parts])
        refs = [block.ref for part in work.parts for block in part.blocks]
        if work.actor is not None:
            actor = self._actors[work.op.index, work.actor]
            method = actor.run.options(
                num_returns="streaming", _generator_backpressure_num_objects=2 * action.window + 1
            )
            generator = method.remote(work.body, header, *refs)
        else:
            generator = self._function(work, action).remote(header, *refs)
        stream = self._streams[work.number] = TaskStream(work, generator, self.machine)
        self._arrivals.watch((_WORK, work.number), stream.generator)

    def _function(self, work: Work, action: Submit) -> Any:
        op = work.op
        # Only what can be read on one node alone says where it runs: a node's CPUs may be taken by actors for good.
        unit = work.part.unit
        node = (unit.node or "") if isinstance(unit, SourceTask) else ""
        key = (op.index, work.body, action.window, node, work.shares)
        function = self._functions.get(key)
        if function is None:
            first = (op.index, work.body, 0, "", False)
            plain = self._functions.get(first)
            if plain is None:
                plain = hpc.remote(task_function(op.bodies[work.body], op.name, self._context))
                self._functions[first] = plain
            options = remote_options(op, self._context, work.shares)
            if op.takes_at_end:  # the machine has its parts done again, and throws away what came of them
                options["max_retries"] = 0
            if node:
                options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node, soft=False)
            function = plain.options(
                name=op.name,
                num_returns="streaming",
                _generator_backpressure_num_objects=2 * action.window + 1,
                **options,
            )
            if op.options.remote_fn is None:
                self._functions[key] = function
        return function

    def _read(self, stream: TaskStream) -> None:
        more = stream.read(self._arrivals)
        work = stream.work
        if more:
            self._arrivals.watch((_WORK, work.number), stream.generator)
        elif stream.lost_actor is not None:
            self._streams.pop(work.number, None)
            self._actor_lost(work, stream.lost_actor)
        elif work.state is WorkState.OVER and (stream.ended or work.actor is not None):
            self._streams.pop(work.number, None)  # else it is to be cancelled in a moment
            if not stream.ended:
                self._dropped.append(stream.generator)

    def _cancel(self, work: Work) -> None:
        stream = self._streams.pop(work.number, None)
        if stream is not None:
            hpc.cancel(stream.generator)
            self._dropped.append(stream.generator)

    def _see_errors(self, wait_s: float) -> None:
        """Errors of tasks that nobody waits for are not printed as errors that nobody got. What has ended by then is
        forgotten: a run that shares CPUs cancels each of its tasks."""
        left, self._dropped = self._dropped, []
        ends = [generator.completed() for generator in left]
        over = set(hpc.wait(ends, num_returns=len(ends), timeout=wait_s, fetch_local=False)[0])
        for generator, end in zip(left, ends, strict=True):
            if end not in over and not self._finished:
                self._dropped.append(generator)
                continue
            while (item := self._arrivals.take(generator)) is not None and item[0] is not None:
                if item[1]:
                    hpc.wait([item[0]], timeout=0, fetch_local=False)

    def _pull(self, action: Pull) -> None:
        op = action.op
        feeder = self._feeders.get(op.index)
        if feeder is None:
            bring = self.bring
            feeder = Feeder(lambda: op.source.tasks(op.parallelism), lambda *news: bring(lambda: self._fed(op, *news)))
            self._feeders[op.index] = feeder
        feeder.want(action.most)

    def _fed(self, op: Any, units: list[Any], ended: bool, error: BaseException | None) -> None:
        if error is not None:
            self.machine.fail(error)
        else:
            self.machine.units(op, units, ended)

    # -------------------------------------------------------------- actors

    def _start_actor(self, actor: Actor) -> None:
        op = actor.op
        pool = op.pool
        assert pool is not None
        options = {"max_concurrency": pool.concurrent, **remote_options(op, self._context, actor.shares)}
        for own in ("max_retries", "max_restarts", "max_task_retries"):
            options.pop(own, None)  # the machine has its parts done again
        made = hpc.remote(PoolActor).options(max_restarts=0, **options).remote(op.bodies, op.name, self._context)
        key = (op.index, actor.number)
        self._actors[key] = made
        ready = made.ready.remote()
        self._starting[key] = (actor, ready)
        self._arrivals.watch((_ACTOR, key), ready)

    def _actor_began(self, key: tuple[int, int]) -> None:
        actor, ready = self._starting.pop(key, (None, None))
        if actor is None:
            return
        try:
            self.machine.actor_up(actor, hpc.get(ready))
        except Exception as error:
            self._actors.pop(key, None)
            self.machine.actor_lost(actor, error, raised=isinstance(error, ActorError) and error.actor_init_failed)

    def _look_at_actors(self, now: float) -> None:
        """For the words about actors that do not begin: which of them have a worker, and what the nodes have free."""
        self.machine.free = [(room.free, room.total) for room in spi.rooms() if room.is_open]
        for key, (actor, _) in self._starting.items():
            if actor.placed_at is None and spi.has_place(self._actors[key]):
                actor.placed_at = now

    def _look_for_workers(self, now: float) -> None:
        """Which work has a worker, and what the nodes have free, where nothing goes on. What has a CPU already may
        have to wait until its worker has started: that is no reason to do anything."""
        machine = self.machine
        if not machine.crowded.is_on:
            is_doubtful = now - machine.progress_at >= DOUBT_S
            if environment_is_made() if is_doubtful else workers_start():
                self._again_at = now + PATIENCE_S
                return
        self._look_at_actors(now)
        for stream in self._streams.values():
            work = stream.work
            if work.state is WorkState.SUBMITTED and work.actor is None:
                work.placed = spi.has_place(stream.generator)
        machine.crowded.looked()

    def _actor_lost(self, work: Work, error: BaseException) -> None:
        pool = self.machine.pools[work.op.index]
        actor = pool.actors.get(-1 if work.actor is None else work.actor)
        if actor is not None:
            self._actors.pop((work.op.index, actor.number), None)
            self.machine.actor_lost(actor, error)

    def _stop_actor(self, actor: Actor) -> None:
        key = (actor.op.index, actor.number)
        self._starting.pop(key, None)
        made = self._actors.pop(key, None)
        if made is not None:
            hpc.kill(made)


def remote_options(op: Operator, context: Any, shares: bool = False) -> dict[str, Any]:
    """What the tasks or actors of an operator are started with, in a run with these settings. shares: without a CPU."""
    use = op.options
    options: dict[str, Any] = dict(use.remote)
    if use.remote_fn is not None:
        options.update(use.remote_fn())
    if use.num_gpus:
        options["num_gpus"] = use.num_gpus
    options["num_cpus"] = (0 if use.num_gpus else context._task_cpus) if use.num_cpus is None else use.num_cpus
    if shares:
        options["num_cpus"] = 0
    if use.memory is not None:
        options["memory"] = use.memory
    return options

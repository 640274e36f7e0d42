"""The simulated worker: it runs the programs of tasks and actors in virtual time.

The code of production (`hpc.core.worker.loop`) decides what runs next, what is given back, when an outcome is sent and
when the process ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import msgspec

from hpc.core.callruns import call_at
from hpc.core.ids import Address, owner_of
from hpc.core.process.context import TaskContext
from hpc.core.sim import paths
from hpc.core.sim.processes import Process
from hpc.core.sim.programs import Program
from hpc.core.sim.steps import Job, Steps
from hpc.core.sim.world import World
from hpc.core.wire import (
    INLINE,
    Allocated,
    Call,
    Calls,
    Cancel,
    CreateActor,
    Done,
    EndActor,
    Exiting,
    Message,
    Result,
    Task,
    system_error,
)
from hpc.core.worker.loop import ACKS_S, Loop, goes_in_run

NEVER_BEGAN = system_error("TaskCancelledError", "before it started")
#: How often a worker is lost when it begins a task while outcomes wait to be sent.
UNSENT = 0.06
#: A process that is not wanted any more looks again after this time whether it is needed.
RETIRE_LOOK_S = 0.05


class WorkerSim:
    """A worker's shell in virtual time."""

    def __init__(self, world: World, process: Process) -> None:
        self.world = world
        self.process = process
        machine = process.machine
        self.loop = Loop(machine, self, NEVER_BEGAN, nullcontext(), self._send_left, self._look)
        #: What runs, and the calls of the run that are still to be made.
        self.job: Job | None = None
        self.turns: Iterator[tuple[bytes, bytes]] | None = None
        self.run: tuple[Address, Calls] | None = None
        self.actor = b""
        self.slot = (b"", 0)
        #: Why the process ends, once no outcome waits, or at a time at the latest.
        self.ending, self.end_by = "", 0.0
        #: It may not run more.
        self.spent = False
        #: What has ended here and was not to be told with others.
        self.ended: list[tuple[bytes, int]] = []
        self._looks = False
        self.seen: dict[tuple[Address, str], int] = {}
        self.steps = Steps(world, process, self.loop, self._finish)
        machine.handlers.update(self.loop.handlers)
        process.on_message, process.published = self.on_message, self.published
        paths.watch(process, world.paths)
        process.waits = lambda: self.loop.blocked > 0
        process.on_frame, process.on_background = self.on_frame, self.on_background

    def _send_left(self, everything: bool) -> None:
        self.world.send_left(self.process, everything)

    def _look(self) -> None:
        """After a full batch: here messages are read as they come."""
        self._sees(paths.FULL_BATCH)

    # -------------------------------------------------------------- messages

    def on_message(self, src: Address, msg: Message) -> None:
        """A message that is for no machine."""
        if isinstance(msg, Allocated):
            self.process.machine.pins.allocated(msg)
            self.steps.asked.pop(msg.req)(msg)

    def on_frame(self) -> None:
        """What a frame of messages leads to."""
        loop = self.loop
        for _, msg in loop.cancelled:
            if isinstance(msg, Cancel):
                self._sees(paths.CANCELLED_RUNNING, msg.task in loop.running)
            else:
                self.world.never_begun.add((msg.task, msg.attempt))
                self._sees(paths.CANCELLED_QUEUED)
        self._sees(paths.WHILE_WAITING, bool(loop.blocked) and self._tasks_wait())
        loop.on_frame()
        self.next()

    def _tasks_wait(self) -> bool:
        return any(isinstance(msg, Task) for _, msg in self.loop.ready)

    def _sees(self, path: str, taken: bool = True) -> None:
        if taken:
            self.world.paths[path] += 1

    def on_background(self, now: float) -> None:
        """From time to time while the user's code computes."""
        if not self.loop.blocked and self.loop.holds_up(now):
            self._sees(paths.BEHIND_LONG, self._tasks_wait())
            self.loop.give_back()

    def published(self) -> tuple[bytes, int]:
        """What the worker's slot says that it runs."""
        return (self.actor, 0) if self.actor else self.slot

    def interrupt(self, task: bytes, runs: bool) -> Call | None:
        """What runs looks whether it was cancelled at its end."""
        return None

    def ends_programs(self, raylet: Address) -> bool:
        """No program is ever left."""
        return False

    # -------------------------------------------------------------- what runs next

    def next(self) -> None:
        """Begin what comes next, if nothing runs."""
        while self.job is None and self.process.alive and not self.ending:
            if self.turns is not None:
                self._next_of_run()
            elif self.loop.ready:
                self._take(*self.loop.ready.popleft())
            else:
                self._nothing_left()
                return
        if self.ending and self.job is None and self.loop.may_end:
            self._leave()

    def _take(self, src: Address, msg: Any) -> None:
        if isinstance(msg, EndActor):
            self.end("ended")
        elif isinstance(msg, Calls):
            self.run = src, msg
            self.turns = self.loop.calls(src, msg)
        else:
            self._begin(src, msg)

    def _next_of_run(self) -> None:
        assert self.turns is not None and self.run is not None
        if next(self.turns, None) is None:
            self.turns = self.run = None
        else:
            src, run = self.run
            self._begin(src, call_at(run, self.loop.executor.run_at))

    def _nothing_left(self) -> None:
        ends = self.loop.idle()
        self._send_left(True)
        if self.loop.may_end:
            self.slot = (b"", 0)
        self.world.flush(self.process, everything=True)
        if not self.process.alive or self.job is not None:
            return
        if ends:
            self.end("it is not needed any more")
            self._leave()
        elif self.loop.retiring and not self._looks:
            self._sees(paths.NEEDED)
            self._looks = True
            self.world.clock.after(RETIRE_LOOK_S, self._look_again)

    def _look_again(self) -> None:
        self._looks = False
        self.next()

    def end(self, why: str) -> None:
        """End the process once no outcome waits to be sent; not for long for that."""
        if not self.ending:
            self.ending, self.end_by = why, self.world.clock.now + ACKS_S
            if not self.loop.may_end:
                self._sees(paths.END_AWAITS_ACK)
                self.world.flush(self.process, everything=True)
                self.world.clock.after(ACKS_S, self._leave)

    def _leave(self) -> None:
        """The process ends by its own will: its raylet is told first."""
        if self.process.alive:
            self._check_end()
            self.process.machine.send(self.process.machine.raylet, Exiting(self.ending, True))
            self._send_left(True)
            self.world.kill_process(self.process, "exit")

    def _check_end(self) -> None:
        """All outcomes were sent, and nobody needs what the process owns, unless it is an actor's."""
        world, addr = self.world, self.process.addr
        self._send_left(True)
        late = world.clock.now >= self.end_by
        if not late and (left := [task.hex()[16:] for task, n in self.ended if (task, n) not in world.answered]):
            world.broken.append(f"process {addr} ends by itself before it has told what became of {left}")
        if self.actor:
            return
        for other in world.processes.values():
            for entry in other.machine.state.entries.values() if other.alive and other is not self.process else ():
                if owner_of(entry.ident) == addr and not entry.dead and entry.count:
                    world.broken.append(f"process {addr} ends by itself, and {other.addr} holds an object of its")

    def _begin(self, src: Address, msg: Task | Call | CreateActor) -> None:
        if isinstance(msg, CreateActor):
            self.actor = msg.actor
            self._may_be(msg)
            self.world.hosts[msg.actor].append(self.process)
            context = TaskContext(msg.actor, msg.incarnation)
        else:
            context = TaskContext(msg.task, msg.attempt)
            self._may_begin(msg)
            if isinstance(msg, Task):
                self.slot = msg.task, msg.ran
                if self.loop.unsent and self.world.strikes(paths.LOST_UNSENT, UNSENT):
                    self.world.kill_process(self.process)
                    return
        if isinstance(msg, Call):
            order = (src, msg.group)
            if 0 <= msg.seq <= self.seen.get(order, -1):
                self.world.broken.append(f"call {msg.seq} of {src} ran after {self.seen[order]}")
            self.seen[order] = max(msg.seq, self.seen.get(order, -1))
        program = msgspec.msgpack.decode(msg.args, type=Program)
        met = list(msg.holds)
        for ident in met:  # what unpickling the arguments does
            self.process.machine.objects.hold(ident)
        self.job = job = Job(src, msg, program, met, context, self.world.clock.now)
        self.loop.running[context.task] = context
        self.loop.task, self.loop.began = context.task, self.world.clock.now
        self.world.flush(self.process)
        self.steps.begin(job)

    def _may_be(self, msg: CreateActor) -> None:
        """An actor is one process at a time, and its constructor begins once there."""
        for other in self.world.hosts[msg.actor]:
            if other.alive:
                where = "twice in a process" if other is self.process else f"while {other.addr} is that actor"
                self.world.broken.append(f"actor {msg.actor.hex()[24:]} begins {where}")

    def _may_begin(self, msg: Task | Call) -> None:
        """Each attempt begins once, and none of which it was said that it never will. A task that may not be tried
        again begins once whatever happens."""
        attempt, name = (msg.task, msg.attempt), f"attempt {msg.attempt} of {msg.task.hex()[16:]}"
        if attempt in self.world.begun:
            self.world.broken.append(f"{name} begins twice")
        elif attempt in self.world.never_begun:
            self.world.broken.append(f"{name} begins although it was cancelled before")
        elif self.spent:
            self.world.broken.append(f"{name} begins in a process that may not run more")
        elif isinstance(msg, Task) and not msg.retriable and (msg.task, -1) in self.world.begun:
            self.world.broken.append(f"{name} begins, and may not be tried again")
        self.world.begun.update((attempt, (msg.task, -1)))

    def _finish(self, job: Job, results: list[Result]) -> None:
        """A task, call or constructor has ended: leave its outcome for sending, and go on."""
        loop, program, context = self.loop, job.program, job.context
        self.job, loop.task = None, b""
        loop.running.pop(context.task, None)
        self.steps.end(job)
        run_us = int((self.world.clock.now - job.began) * 1e6)
        again = program.flaky and not context.attempt and not context.cancelled
        done = Done(context.task, context.attempt, results, run_us, again, exiting=program.spent or program.exits)
        result = results[0]
        if isinstance(job.msg, CreateActor):
            loop.executor.created = done
        if self.turns is not None and (goes_in_run(done) or _is_small(done)):
            loop.result, loop.run_us = result, run_us
        else:
            loop.result = None
            held = loop.held
            loop.reply(job.src, done, job.met, False, isinstance(job.msg, Task) and not job.msg.retriable)
            self._sees(paths.ACK_AWAITED, loop.held > held)
            self.ended.append((context.task, context.attempt))
        if program.spent:
            self.spent = True
            loop.run_no_more()
        self.next()


def _is_small(done: Done) -> bool:
    """Whether the outcome is one value in the message, with nothing inside."""
    result = done.results[0]
    return result.kind == INLINE and not result.inner and not (done.retryable or done.exiting)

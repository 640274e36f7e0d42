"""What a worker does between the messages that come and the user's code that it runs: the pure part of its loop.

It says what is given back to its owners, when an outcome is sent and with which others, and when the process may end.
The queue with the rules of order is a part of it (`executor`). Its shells (`main`, `actor`, `runs`) run the user's
code, poll, and hold the lock; the simulator drives the same code in virtual time. Methods are called with the lock
held, but for those that say that they take it.

*What runs next* is the first of `ready`. Where nothing is there, `idle` says whether the process ends.

*Outcomes.* Those of short tasks wait for the next ones', so that they travel together, until nothing is left to run.
After a longer task all are sent at once. An outcome waits until the owners of references among its arguments know of
this node, where this process still holds the references. Its caller lets go of them when it comes. A process that is
wanted no more ends when none waits for that, and nobody needs what it owns.

*Given back* is what waits here unbegun while the user's code waits for others, or runs for long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from hpc.core.callruns import add_result
from hpc.core.ids import Address, ids_from
from hpc.core.process.context import TaskContext
from hpc.core.wire import (
    ERROR,
    Blocked,
    Call,
    Calls,
    CallsDone,
    Cancel,
    Cleared,
    Consumed,
    Done,
    EndActor,
    Message,
    Result,
    Retire,
    Unblocked,
)
from hpc.core.worker.executor import Executor

if TYPE_CHECKING:
    from hpc.core.owner.machine import OwnerMachine

#: A task that runs longer has the tasks behind it given back.
GIVE_BACK_S = 0.002
#: Outcomes of tasks shorter than this may wait for the next task's; after longer ones they are sent at once.
SHORT_US = 200
#: Owners may take so long to say that they know of this process's holds, before it ends without their word.
ACKS_S = 2.0
#: A batch of this many is sent, however short the tasks are.
REPLY_BATCH = 64


class Code(Protocol):
    """Where the user's code runs."""

    def interrupt(self, task: bytes, runs: bool) -> Call | None:
        """Cancel a task or call that is not queued here; ``runs``: it has begun and has not ended. Returns a call that
        had not begun either: it waited for a thread, and will never run."""

    def ends_programs(self, raylet: Address) -> bool:
        """Whether programs are left that the user's code has started. They are ended, and the raylet is told then."""


class Loop:
    """The loop of one worker. ``send_left`` has messages sent, ``look`` has them read without waiting (and without the
    lock)."""

    def __init__(
        self,
        machine: OwnerMachine,
        code: Code,
        never_began: Result,
        lock: AbstractContextManager[Any],
        send_left: Callable[[bool], None],
        look: Callable[[], None],
    ) -> None:
        self.machine, self.code, self.never_began = machine, code, never_began
        self.lock, self.send_left, self.look = lock, send_left, look
        self.executor = Executor()
        self.ready, self.cancelled, self.replies = self.executor.ready, self.executor.cancelled, self.executor.replies
        #: The tasks and calls that run.
        self.running: dict[bytes, TaskContext] = {}
        #: What the main thread runs, and since when.
        self.task = b""
        self.began = 0.0
        #: The process is not wanted any more, or may not run more.
        self.retiring = False
        #: How many waits of the user's code the raylet knows of: others use the CPU meanwhile.
        self.blocked = 0
        #: Outcomes that were left for sending, and those that wait for acknowledgements.
        self.unsent = 0
        self.held = 0
        #: What the call of a run that has just been made gave, and how long it took; None if it was answered by itself.
        self.result: Result | None = None
        self.run_us = 0
        #: How often functions were executed of which a process may do only so many executions.
        self._executions: dict[bytes, int] = {}
        self.handlers: dict[type, Callable[[Address, Any], None]] = {
            **self.executor.handlers,
            Consumed: self._consumed,
            Retire: self._retire,
        }

    # -------------------------------------------------------------- messages

    def on_frame(self) -> None:
        """What a frame of messages leads to. It changes nothing unless this is `blocked`, or there are `replies` or
        `cancelled`."""
        machine = self.machine
        for dst, reply in self.replies:
            machine.send(dst, reply)
        self.replies.clear()
        if self.blocked and not self.executor.actor:
            # Tasks sent before its owner knew that we wait: it must not wait for us, who may be waiting for it.
            self.give_back()
        for src, msg in self.cancelled:
            waiting = self._cancel(msg) if isinstance(msg, Cancel) else msg
            if waiting is not None:
                machine.send(src, Done(waiting.task, waiting.attempt, [self.never_began]))
        self.cancelled.clear()

    def _cancel(self, msg: Cancel) -> Call | None:
        """Cancel what is not queued any more."""
        context = self.running.get(msg.task)
        if context is not None:
            context.cancelled = True
            if msg.recursive:
                self.machine.cancel_children(msg.task)
        return self.code.interrupt(msg.task, context is not None)

    def _retire(self, src: Address, msg: Retire) -> None:
        self.retiring = True
        if not self.code.ends_programs(src):
            self.machine.send(src, Cleared())

    def _consumed(self, src: Address, msg: Consumed) -> None:
        context = self.running.get(msg.task)
        if context is not None and context.attempt == msg.attempt:
            context.consumed = max(context.consumed, msg.count)
            if context.on_consumed is not None:
                context.on_consumed()

    # -------------------------------------------------------------- ends

    def idle(self) -> bool:
        """Nothing is left to run: all that was left is to be sent. True: then the process ends."""
        self.machine.objects.drain_dropped()
        self.unsent = 0
        return self.retiring and self.may_end and not self.machine.is_needed()

    @property
    def may_end(self) -> bool:
        """Whether no outcome waits for acknowledgements."""
        return not self.held

    def is_last(self, fn: bytes, max_calls: int) -> bool:
        """Whether this was the last execution of the function that this process may do."""
        count = self._executions[fn] = self._executions.get(fn, 0) + 1
        return count >= max_calls

    def run_no_more(self) -> None:
        """The process has done all that it may do: what is queued goes elsewhere, as its owner knows."""
        self.executor.close()
        self.retiring = True

    def end_actor(self, actor: bytes, why: str) -> None:
        """The actor ends by its own will: what is queued fails, what runs goes on to its end."""
        self.executor.close()
        self.ready.append((self.machine.addr, EndActor(actor, 0, why)))

    # -------------------------------------------------------------- giving back

    def give_back(self) -> None:
        """Tasks that wait here go elsewhere."""
        for dst, msg in self.executor.give_back():
            self.machine.send(dst, msg)

    def holds_up(self, now: float) -> bool:
        """Whether tasks wait behind one that runs for long: they are to be given back."""
        return bool(self.task and self.ready) and now - self.began > GIVE_BACK_S

    def begin_wait(self, lend: bool) -> None:
        """The user's code is about to wait: it must not wait for what is queued here. ``lend``: it needs no CPU."""
        self.give_back()
        if lend:
            self.blocked += 1
            self.machine.send(self.machine.raylet, Blocked())

    def end_wait(self) -> None:
        """The user's code goes on, and needs the CPU that it lent."""
        self.blocked -= 1
        self.machine.send(self.machine.raylet, Unblocked())

    # -------------------------------------------------------------- outcomes

    def reply(self, src: Address, done: Done, met: list[bytes], later: bool = False, once: bool = False) -> None:
        """Send the outcome, or keep it for the next one's message; ``met`` are the references that were among the
        arguments. With ``later`` the caller flushes. The outcome of a task that may run ``once`` only is sent before
        the next begins: it must not be lost with that one's worker. Takes the lock."""
        with self.lock:
            machine = self.machine
            if met:
                machine.objects.drain_dropped()
                self.held += 1
                machine.objects.when_acked(met, lambda: self._acknowledged(src, done))
            elif (box := machine.outbox.get(src)) is not None:
                box.append(done)
            else:
                machine.outbox[src] = [done]
            self.unsent += 1
            full = self.unsent >= REPLY_BATCH
            if not later and (done.run_us > SHORT_US or full or once):
                self.unsent = 0
                self.send_left(True)
        if full and not later:
            self.look()  # one that has much to do does not come to wait, where it would read

    def _acknowledged(self, src: Address, done: Done) -> None:
        self.held -= 1
        self.machine.send(src, done)

    def calls(self, src: Address, run: Calls) -> Iterator[tuple[bytes, bytes]]:
        """The calls of a run in turn, but for those that were cancelled: their names and arguments. Before
        it takes the next, the caller leaves what the last one gave in ``result`` and ``run_us``. Takes the lock."""
        executor, machine, lock, first = self.executor, self.machine, self.lock, run.task
        answer: CallsDone | None = None
        box: list[Message] = []
        turn = -1
        prefix, number = first[:-8], int.from_bytes(first[-8:], "big")
        executor.run_at = -1
        executor.run = src, run
        try:
            for at, data in enumerate(run.args):
                task = prefix + (number + at).to_bytes(8, "big")
                executor.run_at = at
                if executor.skipped and task in executor.skipped:
                    answer = None  # the values of an answer are those of calls that follow each other
                    continue
                yield task, data
                result = self.result
                if result is None:
                    answer = None
                    continue
                self.unsent += 1
                full = self.unsent >= REPLY_BATCH
                with lock:
                    if answer is not None and machine.state.turns == turn and box[-1] is answer:
                        answer.results.append(result)
                    else:
                        turn, box = machine.state.turns, machine.box(src)
                        answer = add_result(box, first, at, result)
                    if full or self.run_us > SHORT_US:
                        self.unsent = 0
                        self.send_left(True)
                if full:
                    self.look()
        finally:
            executor.run = None
            if executor.skipped:
                executor.skipped.difference_update(ids_from(first, len(run.args)))


def goes_in_run(done: Done) -> bool:
    """Whether the outcome of a run's call that raised may be told together with others': an error, and nothing else."""
    return done.results[0].kind == ERROR and not (done.retryable or done.exiting)

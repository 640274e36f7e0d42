"""What a worker has been sent and has not run yet: a pure queue with the rules of order.

Tasks run in the order of arrival. Calls of one caller to one concurrency group of the actor run in the order of their
sequence numbers. One that overtook another waits, and a Skip stands for one that will never come. Calls without a
number (out-of-order actors) run as they come.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from msgspec import Struct, field

from hpc.core.callruns import call_at, calls_of, place_in
from hpc.core.ids import Address, ids_from
from hpc.core.wire import (
    Call,
    CallRefused,
    Calls,
    Cancel,
    CreateActor,
    DefineFunction,
    Done,
    EndActor,
    GivenBack,
    LeaseBegin,
    Message,
    Skip,
    Task,
)

Item = tuple[Address, Any]


class _Order(Struct):
    """The calls of one caller: the number that runs next, and those that came too early (None: a Skip)."""

    next_seq: int = 0
    early: dict[int, Call | None] = field(default_factory=dict)


class Executor:
    """The queue of one worker."""

    def __init__(self) -> None:
        self.ready: deque[Item] = deque()
        self.functions: dict[bytes, bytes] = {}
        self.leases: dict[int, LeaseBegin] = {}
        self.actor: bytes = b""
        #: What the actor's constructor came to.
        self.created: Done | None = None
        self.incarnation = 0
        self.cancelled: list[Item] = []
        self.replies: list[tuple[Address, Message]] = []
        #: The run whose calls are being made, the place of the one that runs now, and calls of runs that were cancelled
        #: before they began.
        self.run: tuple[Address, Calls] | None = None
        self.run_at = 0
        self.skipped: set[bytes] = set()
        self._orders: dict[tuple[Address, str], _Order] = {}
        self._src: Address | None = None
        self._group = ""
        self._closed = False
        self._last: _Order | None = None
        self.handlers: dict[type, Callable[[Address, Any], None]] = {
            Call: self._call,
            Calls: self._calls,
            Cancel: self._cancel,
            CreateActor: self._create,
            DefineFunction: self._define,
            EndActor: self._queue,
            LeaseBegin: self._begin,
            Skip: self._skip,
            Task: self._queue,
        }

    def handle(self, src: Address, msg: Message) -> bool:
        """Take a message; False if it is not for an executor."""
        handler = self.handlers.get(type(msg))
        if handler is not None:
            handler(src, msg)
        return handler is not None

    def _queue(self, src: Address, msg: Task | EndActor) -> None:
        if not self._closed:
            self.ready.append((src, msg))

    def close(self) -> None:
        """Nothing more runs here: what waits, and what still comes, is forgotten. Its owner knows."""
        self._closed = True
        self.ready.clear()

    def _define(self, src: Address, msg: DefineFunction) -> None:
        self.functions[msg.fn] = msg.blob

    def _begin(self, src: Address, msg: LeaseBegin) -> None:
        self.leases[msg.lease] = msg

    def _create(self, src: Address, msg: CreateActor) -> None:
        if msg.actor == self.actor and msg.incarnation == self.incarnation:
            if self.created is not None:  # said again, by a head that does not know what the one before was answered
                self.replies.append((src, self.created))
            return
        self.actor, self.incarnation = msg.actor, msg.incarnation
        self._orders.clear()
        self._src = None
        self.ready.append((src, msg))

    def _order(self, src: Address, actor: bytes, incarnation: int, group: str) -> _Order | None:
        if actor != self.actor or incarnation != self.incarnation:
            return None
        order = self._orders.get((src, group))
        if order is None:
            order = self._orders[(src, group)] = _Order()
        return order

    def _call(self, src: Address, msg: Call) -> None:
        # The calls of a frame have one source object: what was found for the one before is right for this one.
        if src is self._src and msg.group == self._group and msg.actor == self.actor:
            order = self._last if msg.incarnation == self.incarnation else None
        else:
            order = self._last = self._order(src, msg.actor, msg.incarnation, msg.group)
            self._src, self._group = src if order is not None else None, msg.group
        if order is None:
            self.replies.append((src, CallRefused(msg.task, msg.attempt, "this worker does not host the actor")))
            return
        seq = msg.seq
        if seq < 0:
            self.ready.append((src, msg))
        elif seq == order.next_seq:
            order.next_seq = seq + 1
            self.ready.append((src, msg))
            if order.early:
                self._advance(src, order)
        elif seq > order.next_seq:
            order.early[seq] = msg

    def _calls(self, src: Address, msg: Calls) -> None:
        """A run that has its turn stays one; any other is so many calls."""
        order = self._order(src, msg.actor, msg.incarnation, "")
        if order is not None and msg.seq == order.next_seq and not order.early:
            order.next_seq += len(msg.args)
            self.ready.append((src, msg))
        else:
            for call in calls_of(msg):
                self._call(src, call)

    def _skip(self, src: Address, msg: Skip) -> None:
        order = self._order(src, msg.actor, msg.incarnation, msg.group)
        if order is not None and msg.seq >= order.next_seq:
            order.early[msg.seq] = None
            self._advance(src, order)

    def _advance(self, src: Address, order: _Order) -> None:
        early = order.early
        while order.next_seq in early:
            call = early.pop(order.next_seq)
            order.next_seq += 1
            if call is not None:
                self.ready.append((src, call))

    def _cancel(self, src: Address, msg: Cancel) -> None:
        """A task that has not started is taken out; one that runs is left to the shell (`cancelled`)."""
        if self._cancel_in_run(msg.task):
            return
        for item in list(self.ready):
            if _is_meant(item[1], msg):
                try:
                    self.ready.remove(item)
                except ValueError:
                    break  # it has begun just now
                self.cancelled.append(item)
                return
        for (caller, _), order in self._orders.items():
            for seq, call in order.early.items():
                if _is_meant(call, msg):
                    order.early[seq] = None
                    self.cancelled.append((caller, call))
                    return
        self.cancelled.append((src, msg))

    def _cancel_in_run(self, task: bytes) -> bool:
        """A call that waits in a run stays there and is passed over when its turn comes. False if it is in none, or has
        begun."""
        runs = [item for item in list(self.ready) if type(item[1]) is Calls]
        if self.run is not None:
            runs.append(self.run)
        for src, run in runs:
            at = place_in(run, task)
            if at >= 0 and not (self.run is not None and run is self.run[1] and at <= self.run_at):
                self.skipped.add(task)
                self.cancelled.append((src, call_at(run, at)))
                return True
        return False

    def give_back(self) -> list[tuple[Address, Message]]:
        """Take out the tasks that have not started, as messages to those who sent them."""
        by_lease: dict[tuple[Address, int], list[bytes]] = {}
        kept: deque[Item] = deque()
        for src, msg in self.ready:
            if type(msg) is Task:
                by_lease.setdefault((src, msg.lease), []).append(msg.task)
            else:
                kept.append((src, msg))
        if not by_lease:
            return []
        self.ready.clear()
        self.ready.extend(kept)
        return [(src, GivenBack(lease, tasks)) for (src, lease), tasks in by_lease.items()]

    def queued(self) -> dict[bytes, Call | Calls | None]:
        """The calls that are here and have not begun, each with the message that it came in."""
        found: dict[bytes, Call | Calls | None] = {}
        found.update((call.task, call) for order in self._orders.values() for call in order.early.values() if call)
        for _, msg in list(self.ready):
            if type(msg) is Call:
                found[msg.task] = msg
            elif type(msg) is Calls:
                found.update(dict.fromkeys(ids_from(msg.task, len(msg.args)), msg))
        if self.run is not None:
            run = self.run[1]
            found.update(dict.fromkeys(ids_from(run.task, len(run.args))[self.run_at + 1 :], run))
        return found

    def may_have_begun(self, src: Address, msg: Call) -> bool:
        """Whether a call that is not queued may have come before."""
        order = self._orders.get((src, msg.group))
        return msg.seq < 0 or (order is not None and msg.seq < order.next_seq)


def _is_meant(what: Any, cancel: Cancel) -> bool:
    return isinstance(what, (Task, Call)) and what.task == cancel.task and what.attempt == cancel.attempt

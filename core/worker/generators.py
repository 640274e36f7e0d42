"""Running a generator: each item is told to the task's owner as soon as it is there. Where the number of return values
is known, the items are these values.

Items that come quickly travel together. A message goes out when some time has passed since the last one, or when the
background thread's tick finds it. With a window the generator waits while too many of its items have not been taken.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from hpc.core import serialization
from hpc.core.ids import Address, return_id
from hpc.core.owner.generator import DynamicObjectRefGenerator
from hpc.core.owner.ref import ObjectRef
from hpc.core.owner.streams import MAX_UNTOLD, item_id, item_ids
from hpc.core.owner.tables import Waiter
from hpc.core.process.context import TaskContext
from hpc.core.wire import DYNAMIC, INLINE, MAX_VALUES_BYTES, NONE, Call, Result, Task, Yielded
from hpc.core.worker.packing import Packed

if TYPE_CHECKING:
    import asyncio

    from hpc.core.worker.ports import Packs

#: Items that follow faster than this go out together.
FLUSH_S = 0.0002
#: A generator that waits longer for its consumer lends its CPU: the consumer may need it to go on.
LEND_AFTER_S = 0.02


class ItemSender:
    """Tells the owner of one running generator about its items. ``retry_on``: the errors for which it is tried again,
    where that is asked for and not for all."""

    def __init__(
        self,
        worker: Packs,
        src: Address,
        msg: Task | Call,
        context: TaskContext,
        retry_on: tuple[type[BaseException], ...] | None = None,
    ) -> None:
        self.retry_on = retry_on
        self.worker = worker
        self.src = src
        self.msg = msg
        self.context = context
        self.count = 0
        self._unsent = 0
        self._flushed_at = 0.0

    @property
    def must_wait(self) -> bool:
        """Whether the window is full."""
        return bool(self.msg.window) and self.count - self.context.consumed >= self.msg.window

    @property
    def may_be_retried(self) -> bool:
        """Whether an error of its code may lead to another attempt."""
        msg = self.msg
        return msg.retry_exceptions and (type(msg) is Call or msg.retriable)  # type: ignore[union-attr]

    def is_retried(self, error: BaseException) -> bool:
        """Whether this error leads to another attempt."""
        return self.may_be_retried and (self.retry_on is None or isinstance(error, self.retry_on))

    def send(self, value: Any) -> None:
        """One item."""
        msg = self.msg
        self._tell(self.worker.packing.pack(self.src, item_id(msg.task, self.count), msg.attempt, value))

    def fail(self, error: BaseException) -> None:
        """An error as the last item."""
        self._tell(self.worker.failure(self.context.name, error)[0])

    def _tell(self, result: Result) -> None:
        msg, client = self.msg, self.worker.client
        now = time.monotonic()
        with client.lock:
            client.machine.send(self.src, Yielded(msg.task, msg.attempt, self.count, result), urgent=False)
            self.count += 1
            self._unsent += 1
            if now - self._flushed_at > FLUSH_S or self._unsent >= MAX_UNTOLD or self.must_wait:
                self._flushed_at, self._unsent = now, 0
                client.send_left(everything=True)

    def wait(self) -> None:
        """Until an item has been taken, when the window is full."""
        client, context = self.worker.client, self.context
        while True:
            waiter = Waiter(1)
            with client.lock:
                if not self.must_wait:
                    context.on_consumed = None
                    return

                def taken(waiter: Waiter = waiter) -> None:
                    waiter.needed = 0
                    client.machine.woken.append(waiter)

                context.on_consumed = taken
            if not client.wait_for(waiter, LEND_AFTER_S):
                client.wait_for(waiter, None, for_others=True)

    def results(self) -> Packed:
        """What the task itself returns: nothing, or the references to all its items."""
        client = self.worker.client
        if self.msg.num_returns != DYNAMIC:
            return Packed([Result(INLINE, NONE)])
        idents = item_ids(self.msg.task, 0, self.count)
        # The caller owns the items: this process only writes their names down.
        value = DynamicObjectRefGenerator([ObjectRef(ident, client) for ident in idents])
        return Packed([Result(INLINE, serialization.dumps(value).to_bytes(), inner=tuple(idents))])


def run_generator(sender: ItemSender, value: Any) -> Packed:
    """Take all items out of a generator (or another iterable) and tell the owner. Where all of them are one value, an
    error is the last of them."""
    if not isinstance(value, Iterator):
        kind = "streaming" if sender.msg.num_returns != DYNAMIC else "dynamic"
        raise TypeError(f'num_returns="{kind}" is for generators; this returned {type(value).__name__}')
    try:
        for item in value:
            sender.send(item)
            if sender.must_wait:
                sender.wait()
            if sender.context.cancelled:
                if type(sender.msg) is Call:
                    break  # what the call comes to is known to those who look at its cancelling
                # A task gets that by a signal, which may always find the runtime at work where items are quick to make.
                sender.worker.interrupter.check()
    except Exception as error:
        if sender.msg.num_returns != DYNAMIC or sender.is_retried(error):
            raise
        sender.fail(error)
    return sender.results()


def static_returns(sender: ItemSender, value: Iterator[Any]) -> Packed:
    """The return values of a task or call that has a fixed number of them and gave a generator. They are its items as
    far as they come, packed one by one, so that they need not be in memory together. Those that do not come have its
    error; items beyond them are not asked for. What may be retried as a whole is packed at its end."""
    worker, msg = sender.worker, sender.msg
    packed, handed, room = Packed(), list[bytes](), MAX_VALUES_BYTES
    try:
        values = iter([*islice(value, msg.num_returns)]) if sender.may_be_retried else islice(value, msg.num_returns)
        for one in values:
            result = worker.packing.pack_one(return_id(msg.task, len(packed)), one, handed, room)
            room -= len(result.data)
            packed.append(result)
        if len(packed) < msg.num_returns:
            given = len(packed)
            raise ValueError(f"the task has num_returns={msg.num_returns} and its generator gave {given} values")
    except (Exception, KeyboardInterrupt) as error:
        if sender.is_retried(error):
            raise
        packed.extend(worker.failure(sender.context.name, error) * (msg.num_returns - len(packed)))
    if handed:
        with worker.client.lock:
            worker.client.machine.objects.hand_over(msg.task, msg.attempt, sender.src, handed)
    return packed


async def run_async_generator(sender: ItemSender, value: Any) -> Packed:
    """The same on an actor's event loop."""
    import asyncio

    if not inspect.isasyncgen(value) and not isinstance(value, AsyncIterator):
        return run_generator(sender, value)
    loop = asyncio.get_running_loop()
    async for item in value:
        sender.send(item)
        while sender.must_wait:
            taken = asyncio.Event()
            sender.context.on_consumed = partial(_wake, loop, taken)
            if sender.must_wait:
                await taken.wait()
    return sender.results()


def _wake(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    loop.call_soon_threadsafe(event.set)

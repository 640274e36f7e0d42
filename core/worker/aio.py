"""Actors with coroutine methods: the event loop runs on the main thread, and polls the session's sockets itself.

asyncio waits in its selector, so the selector is where this process waits for everything. It holds the right to poll
while it sleeps, reads what has come and makes tasks of the calls. It gives the right back while coroutines run. A call
and its reply cost no hand-over between threads: on a loop of its own thread they cost two, 40 µs and more. Replies of
one turn of the loop travel together.

Where another thread polls (one that waits in `hpc.get`), the loop sleeps on its own descriptors only, and is woken.
"""

from __future__ import annotations

import asyncio
import inspect
import select
import selectors
import threading
import time
from collections import deque
from collections.abc import Awaitable
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from hpc.core.callruns import calls_of
from hpc.core.exceptions import ActorExit
from hpc.core.failures import NEVER_BEGAN, cancelled_while_it_ran
from hpc.core.ids import Address
from hpc.core.process.context import TaskContext, current_task
from hpc.core.wire import Call, Calls, CreateActor, Done, EndActor, system_error
from hpc.core.worker import saving
from hpc.core.worker.actor import FLUSH_US, ActorHost
from hpc.core.worker.generators import ItemSender, run_async_generator, static_returns
from hpc.core.worker.saving import SaveActor

if TYPE_CHECKING:
    from hpc.core.worker.ports import Works


#: One turn of a busy loop takes milliseconds: so long nobody else polls for it.
PATIENCE_S = 0.02
#: A loop that has much to do with descriptors of its own looks at the session's sockets this often: each look costs two
#: more calls of the system.
BUSY_S = 0.001


class _Group:
    """A concurrency group: its event loop, and the calls that wait for their turn on it. All but the making is for the
    thread of its loop."""

    def __init__(self, limit: int, loop: asyncio.AbstractEventLoop) -> None:
        self.limit = limit
        self.loop = loop
        self.active = 0
        self.queued: deque[tuple[Address, Call]] = deque()
        self.cancelled: set[bytes] = set()


class AsyncActorHost(ActorHost):
    """An actor whose calls interleave on an event loop, as many at a time as its limits allow. Concurrency groups have
    loops on threads of their own: what blocks one group, the default one too, does not stop another."""

    def __init__(self, worker: Works, create: CreateActor, cls: type) -> None:
        super().__init__(worker, create, cls)
        self.loop = asyncio.SelectorEventLoop(_SessionSelector(self))
        self._groups = {
            group: _Group(limit, asyncio.new_event_loop() if group else self.loop)
            for group, limit in self.limits.items()
        }
        #: All calls that have come and are not finished; None before they begin.
        self._tasks: dict[bytes, asyncio.Task[None] | None] = {}
        self._end_why = ""
        self._warned = False
        self._saves: set[asyncio.Task[None]] = set()
        self._restoring: Awaitable[Any] | None = None
        #: The readers of generators that wait for them.
        self._readers: dict[bytes, Address] = {}

    def construct(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Make the object in the running loop: its constructor may begin tasks of its own there."""
        asyncio.set_event_loop(self.loop)
        error = self.loop.run_until_complete(self._construct(args, kwargs))
        if error is not None:
            raise error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)  # no lines of asyncio's

    async def _construct(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> BaseException | None:
        try:
            super().construct(args, kwargs)
            if self._restoring is not None:
                await self._restoring
        except BaseException as error:
            return error
        return None

    def restore(self, state: Any) -> None:
        """As of any actor; its method may be a coroutine."""
        taken = self.instance.__hpc_restore__(state)
        if inspect.isawaitable(taken):
            self._restoring = taken

    async def checkpoint(self) -> Any:
        """As of any actor; its method may be a coroutine."""
        state = self.instance.__hpc_checkpoint__()
        return await state if inspect.isawaitable(state) else state

    async def save(self) -> None:
        """As of any actor, beside the calls that run."""
        if saving.can_save(self.cls):
            try:
                saving.write(self.worker.client, await self.checkpoint())
            except Exception:
                saving.complain()

    async def save_now(self) -> str:
        """As of any actor."""
        saving.must_save(self.cls)
        return saving.write(self.worker.client, await self.checkpoint())

    def run(self) -> None:
        """Serve calls until the process ends."""
        for name in self._groups:
            if name:
                threading.Thread(target=self._serve, args=[name], name=f"hpc-actor-{name}", daemon=True).start()
        self.loop_thread = threading.get_ident()
        self.worker.client.polling.patience_s = PATIENCE_S
        self.worker.wake = self._wake
        machine = self.worker.client.machine
        told = machine.on_gone

        def gone(process: Address) -> None:
            told(process)
            self._caller_gone(process)

        machine.on_gone = gone
        self._serve("")

    def _serve(self, name: str) -> None:
        loop = self._groups[name].loop
        self.lanes[threading.get_ident()] = name
        asyncio.set_event_loop(loop)
        while True:
            try:
                loop.run_forever()
            except ActorExit:
                pass  # of a task that the actor has begun itself: the calls that run go on to their end

    def lane_of(self, group: str) -> str:
        """On whose event loop the calls of this concurrency group run."""
        return group if group in self._groups else ""

    def queued(self) -> dict[bytes, Call | Calls | None]:
        """Calls that have left the worker's queue and have not ended."""
        return dict.fromkeys(self._tasks)

    def about_to_wait(self, thread: int) -> None:
        """A coroutine that is about to wait in ``get`` or ``wait`` is warned of, once."""
        if thread in self.lanes and not self._warned:
            self._warned = True
            self.worker.client.warn(
                f"a coroutine of the actor {self.name} waits in hpc.get() or hpc.wait(), and all its other calls wait "
                "with it: use `await ref` or `await asyncio.gather(*refs)` there"
            )

    def _wake(self) -> None:
        """Something was read (the lock is held): calls of other groups go to their loops, whatever this one does."""
        if len(self._groups) > 1:
            ready = self.worker.executor.ready
            items = list(ready)
            ready.clear()
            for item in items:
                if type(item[1]) is Call and item[1].group and item[1].group in self._groups:
                    self.call(*item)
                else:
                    ready.append(item)
        if threading.get_ident() != self.loop_thread:
            self.loop.call_soon_threadsafe(_nothing)

    def take_calls(self) -> bool:
        """Begin with what has come; False if nothing has, or the object is still being made."""
        ready = self.worker.executor.ready
        if not ready or not self.loop_thread:
            return False
        with self.worker.client.lock:
            items = list(ready)
            ready.clear()
        for src, msg in items:
            if type(msg) is Call:
                self.call(src, msg)
            elif type(msg) is Calls:
                for call in calls_of(msg):
                    self.call(src, call)
            elif type(msg) is EndActor:
                self._end_why = msg.why
                self._maybe_end()
            elif type(msg) is SaveActor:
                self._saves.add(saves := self.loop.create_task(self.save()))
                saves.add_done_callback(self._saves.discard)
        return True

    def call(self, src: Address, msg: Call) -> None:
        """Begin a call on the loop of its group."""
        group = self._groups.get(msg.group) or self._groups[""]
        self._tasks[msg.task] = None
        if group.loop is not self.loop:
            group.loop.call_soon_threadsafe(self._begin, src, msg, group)
        elif self.exiting or group.active >= group.limit:
            self._begin(src, msg, group)
        else:
            self._start(src, msg, group)

    def _begin(self, src: Address, msg: Call, group: _Group) -> None:
        if self.exiting:
            self._forget(msg.task)  # its owner will say that the actor is dead
        elif group.active >= group.limit:
            group.queued.append((src, msg))
        else:
            self._start(src, msg, group)

    def _start(self, src: Address, msg: Call, group: _Group) -> None:
        group.active += 1
        self._tasks[msg.task] = group.loop.create_task(self._run_call(src, msg, group))

    def _ended(self, task: bytes, group: _Group) -> None:
        """A call has run: the next one of its group may."""
        group.cancelled.discard(task)
        group.active -= 1
        while group.queued:
            src, msg = group.queued.popleft()
            if not self.exiting:
                self._start(src, msg, group)
                return
            self._forget(msg.task)

    def _forget(self, task: bytes) -> None:
        """A call is finished, and its reply, if there is one, is on its way."""
        del self._tasks[task]
        if self._end_why:
            self.loop.call_soon_threadsafe(self._maybe_end)

    def _maybe_end(self) -> None:
        if self._end_why and not self._tasks:
            self.leave(self._end_why)

    def cancel(self, task: bytes) -> None:
        """Cancel a call, whether it runs or waits for its turn. Called by whichever thread polls."""
        for group in self._groups.values():
            group.loop.call_soon_threadsafe(self._cancel, task, group)

    def _caller_gone(self, process: Address) -> None:
        """A process has ended (the lock is held). Generators that it read would wait for it for ever: they are
        cancelled, with what they have begun."""
        for task, reader in list(self._readers.items()):
            if reader == process:
                self.worker.client.machine.cancel_children(task)
                self.cancel(task)

    def _cancel(self, task: bytes, group: _Group) -> None:
        running = self._tasks.get(task)
        if running is not None:
            if running.get_loop() is group.loop:
                if task in self.worker.running:
                    running.cancel()
                else:
                    group.cancelled.add(task)  # its coroutine sees that when it begins
            return
        for item in group.queued:
            if item[1].task == task:
                group.queued.remove(item)
                group.cancelled.add(task)
                self._start(*item, group)
                return

    async def _run_call(self, src: Address, msg: Call, group: _Group) -> None:
        worker = self.worker
        full_name = self.full_name(msg.method)
        method = full_name if msg.name else ""
        context = TaskContext(msg.task, msg.attempt, msg.name or full_name, method=method, ran=msg.ran)
        exiting = retryable = False
        met: list[bytes] = []
        start = time.monotonic()
        try:
            if msg.task in group.cancelled:
                raise asyncio.CancelledError
            current_task.set(context)
            worker.running[msg.task] = context
            args, kwargs = worker.packing.arguments(msg, met)
            value = self.method(msg.method)(*args, **kwargs)
            if inspect.isawaitable(value):
                value = await value
            if msg.num_returns < 0:
                if msg.window:
                    self._readers[msg.task] = src
                    if src in worker.client.machine.state.gone:
                        raise asyncio.CancelledError
                value = await run_async_generator(ItemSender(worker, src, msg, context), value)
            elif type(value) is GeneratorType and msg.num_returns:
                value = static_returns(ItemSender(worker, src, msg, context), value)
            results = worker.packing.results(src, msg.task, msg.attempt, msg.num_returns, value)
        except ActorExit:
            results, exiting = [system_error("ActorDiedError", "it called exit_actor()", actor=self.name)], True
        except asyncio.CancelledError as error:
            began = msg.task in worker.running
            results = [cancelled_while_it_ran(context.name, error, worker.where) if began else NEVER_BEGAN]
        except BaseException as error:
            retryable = msg.retry_exceptions and isinstance(error, Exception)
            results = worker.failure(context.name, error)
            if context.cancelled:  # whatever its code made of that
                results, retryable = [cancelled_while_it_ran(context.name, error, worker.where)], False
        else:
            if context.cancelled:
                results = [cancelled_while_it_ran(context.name, asyncio.CancelledError(), worker.where)]
        finally:
            worker.running.pop(msg.task, None)
            self._readers.pop(msg.task, None)
            self._ended(msg.task, group)
        run_us = int((time.monotonic() - start) * 1e6)
        kind = results[-1].kind if results else 0
        worker.record.append((msg.task, msg.ran, context.name, start, run_us, kind, None, context.method))
        if worker.tally is not None:
            worker.tally.note(context.name, run_us, kind)
        done = Done(msg.task, msg.attempt, results, run_us, retryable, exiting)
        main = group.loop is self.loop
        if not main:
            done.run_us = max(run_us, FLUSH_US)
        worker.reply(src, done, met, later=main)
        self._forget(msg.task)


class _SessionSelector(selectors.EpollSelector):
    """asyncio's selector, which waits for the session's sockets too."""

    def __init__(self, host: AsyncActorHost) -> None:
        super().__init__()
        self._host = host
        self._client = host.worker.client
        self._all = select.epoll()
        self._all.register(self.fileno(), select.EPOLLIN)
        self._all.register(self._client.sockets.fileno(), select.EPOLLIN)
        #: Several of asyncio's descriptors were ready at a time, and until when they are looked at alone.
        self._is_busy, self._look_at = False, 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Events of asyncio's own descriptors; what came for the actor is read and begun on the way."""
        client, take_calls = self._client, self._host.take_calls
        client.flush_waiting()
        if take_calls():
            timeout = 0.0
        if self._is_busy and time.monotonic() < self._look_at:
            found = super().select(0)
            if found:
                return found
        if not client.polling.take():
            return super().select(timeout)
        try:
            tick_s = client.tick_s()
            client.poll(tick_s if timeout is None else max(0.0, min(timeout, tick_s)), self._all)
        finally:
            client.polling.leave()
        take_calls()
        found = super().select(0)
        self._is_busy = len(found) > 1
        if self._is_busy:
            self._look_at = time.monotonic() + BUSY_S
        return found

    def close(self) -> None:
        """Close both."""
        self._all.close()
        super().close()


def _nothing() -> None:
    """What a loop is given to wake it."""

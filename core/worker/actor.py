"""The actor that a worker hosts: its object, and on which threads its methods run.

Without further options calls run one after the other on the main thread. With max_concurrency they run on that many
threads; a class with coroutine methods gets an event loop on a thread of its own, and then they interleave. Each
concurrency group has threads, or a limit of coroutines, of its own.
"""

from __future__ import annotations

import inspect
import threading
import time
from typing import TYPE_CHECKING, Any

from hpc.core import serialization
from hpc.core.ids import Address
from hpc.core.wire import Call, CreateActor, Done, Result, system_error
from hpc.core.worker.context import TaskContext, current_task
from hpc.core.worker.generators import ItemSender, run_async_generator, run_generator

if TYPE_CHECKING:
    import asyncio
    import concurrent.futures

    from hpc.core.worker.main import Worker

ASYNC_CONCURRENCY = 1000
#: A reply with this running time is sent at once (nobody else would send it for a thread).
FLUSH_US = 1000


class ActorExit(BaseException):
    """Raised by ``exit_actor``."""


class ActorHost:
    """One actor in this process."""

    def __init__(self, worker: Worker, create: CreateActor, cls: type) -> None:
        self.worker = worker
        self.cls = cls
        self.instance: Any = None
        self.name = create.name
        self.ident = create.actor
        options = create.options
        self.is_async = any(
            inspect.iscoroutinefunction(m) or inspect.isasyncgenfunction(m)
            for _, m in inspect.getmembers(cls, inspect.isfunction)
        )
        self.concurrency = int(options.get("max_concurrency") or (ASYNC_CONCURRENCY if self.is_async else 1))
        groups: dict[str, int] = dict(options.get("concurrency_groups") or {})
        #: How many calls may run at the same time, per group; the group without a name has all other methods.
        self.limits = {"": self.concurrency, **groups}
        self.loop: asyncio.AbstractEventLoop | None = None
        self.loop_thread = 0
        self.pools: dict[str, concurrent.futures.ThreadPoolExecutor] = {}
        self._semaphores: dict[str, asyncio.Semaphore] = {}
        self._futures: dict[bytes, concurrent.futures.Future[Any]] = {}
        self._pending = 0
        self._flush_due = False
        self._idle = threading.Condition()

    def construct(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Make the object; the event loop or the threads first, because the constructor may want them."""
        # asyncio takes 18 ms to import, which is for the actors that need it and not for the zygote to wait for.
        if self.is_async:
            import asyncio

            started = threading.Event()
            self.loop = asyncio.new_event_loop()

            def run() -> None:
                assert self.loop is not None
                asyncio.set_event_loop(self.loop)
                self.loop_thread = threading.get_ident()
                self._semaphores = {group: asyncio.Semaphore(limit) for group, limit in self.limits.items()}
                self.loop.call_soon(started.set)
                self.loop.run_forever()

            threading.Thread(target=run, name="hpc-actor-loop", daemon=True).start()
            started.wait()
        elif self.concurrency > 1 or len(self.limits) > 1:
            from concurrent.futures import ThreadPoolExecutor

            self.pools = {
                group: ThreadPoolExecutor(limit, thread_name_prefix=f"hpc-actor-{group}" if group else "hpc-actor")
                for group, limit in self.limits.items()
            }
        self.instance = self.cls(*args, **kwargs)

    def call(self, src: Address, msg: Call) -> None:
        """Run a call, here or on the actor's own threads."""
        if self.loop is not None:
            import asyncio

            self._enter()
            future = asyncio.run_coroutine_threadsafe(self._run_async(src, msg), self.loop)
            self._futures[msg.task] = future
        elif self.pools:
            self._enter()
            pool = self.pools.get(msg.group) or self.pools[""]
            self._futures[msg.task] = pool.submit(self._run_pooled, src, msg)
        else:
            self._run(src, msg, main=True)

    def _enter(self) -> None:
        with self._idle:
            self._pending += 1

    def _left(self, task: bytes) -> None:
        self._futures.pop(task, None)
        with self._idle:
            self._pending -= 1
            if not self._pending:
                self._idle.notify_all()

    def drain(self) -> None:
        """Wait until no call is running."""
        with self._idle:
            self._idle.wait_for(lambda: not self._pending)

    def cancel(self, task: bytes) -> None:
        """Cancel a running coroutine, or a call that waits for a thread. Others run on."""
        future = self._futures.get(task)
        if future is not None:
            future.cancel()

    def method(self, name: str) -> Any:
        """The bound method, or one of those that every actor has."""
        if name == "__ray_ready__":
            return lambda: True
        if name == "__ray_call__":
            return lambda function, *args, **kwargs: function(self.instance, *args, **kwargs)
        if name == "__ray_terminate__":
            return lambda: exit_this_actor()
        return getattr(self.instance, name)

    def _run_pooled(self, src: Address, msg: Call) -> None:
        try:
            self._run(src, msg)
        finally:
            self._left(msg.task)

    def _run(self, src: Address, msg: Call, main: bool = False) -> None:
        worker = self.worker
        context = TaskContext(msg.task, msg.attempt, f"{self.name}.{msg.method}")
        token = current_task.set(context)
        worker.running[msg.task] = context
        met: list[bytes] = []
        serialization.context.met = met
        start = time.monotonic()
        if main:
            worker.started_at = start
        exiting = retryable = False
        try:
            args, kwargs = worker.arguments(msg)
            value = self.method(msg.method)(*args, **kwargs)
            if msg.num_returns < 0:
                value = run_generator(ItemSender(worker, src, msg, context), value)
            args = kwargs = None  # type: ignore[assignment]
            results = worker.results(src, msg.task, msg.attempt, msg.num_returns, value)
            value = None
        except ActorExit:
            results, exiting = [system_error("ActorDiedError", "it called exit_actor()", actor=self.name)], True
        except BaseException as error:
            retryable = msg.retry_exceptions and isinstance(error, Exception)
            results = worker.failure(context.name, error, msg.num_returns)
        finally:
            serialization.context.met = None
            current_task.reset(token)
            worker.running.pop(msg.task, None)
        self._reply(src, msg, results, met, start, exiting, retryable)

    async def _run_async(self, src: Address, msg: Call) -> None:
        import asyncio

        worker = self.worker
        context = TaskContext(msg.task, msg.attempt, f"{self.name}.{msg.method}")
        limit = self._semaphores.get(msg.group) or self._semaphores[""]
        exiting = retryable = False
        met: list[bytes] = []
        start = time.monotonic()
        try:
            async with limit:
                current_task.set(context)
                worker.running[msg.task] = context
                serialization.context.met = met
                try:
                    args, kwargs = worker.arguments(msg)
                finally:
                    serialization.context.met = None
                value = self.method(msg.method)(*args, **kwargs)
                if inspect.isawaitable(value):
                    value = await value
                if msg.num_returns < 0:
                    value = await run_async_generator(ItemSender(worker, src, msg, context), value)
                results = worker.results(src, msg.task, msg.attempt, msg.num_returns, value)
        except ActorExit:
            results, exiting = [system_error("ActorDiedError", "it called exit_actor()", actor=self.name)], True
        except asyncio.CancelledError:
            cancelled = system_error("TaskCancelledError", "it was cancelled while it ran", task=context.name)
            results = [cancelled] * max(1, msg.num_returns)
        except BaseException as error:
            retryable = msg.retry_exceptions and isinstance(error, Exception)
            results = worker.failure(context.name, error, msg.num_returns)
        finally:
            worker.running.pop(msg.task, None)
            self._left(msg.task)
        self._reply(src, msg, results, met, start, exiting, retryable)

    def _reply(
        self,
        src: Address,
        msg: Call,
        results: list[Result],
        met: list[bytes],
        start: float,
        exiting: bool,
        retryable: bool,
    ) -> None:
        run_us = int((time.monotonic() - start) * 1e6)
        kind = results[0].kind if results else 0
        self.worker.record.append((msg.task, msg.attempt, f"{self.name}.{msg.method}", start, run_us, kind))
        done = Done(msg.task, msg.attempt, results, run_us, retryable, exiting)
        if self.loop is not None and not exiting:
            # All replies of one turn of the event loop travel together.
            self.worker.reply(src, done, met, later=True)
            if not self._flush_due:
                self._flush_due = True
                self.loop.call_soon(self._flush)
            return
        if self.pools:
            done.run_us = max(run_us, FLUSH_US)
        self.worker.reply(src, done, met)
        if exiting:
            self.worker.exit("exit_actor() was called")

    def _flush(self) -> None:
        self._flush_due = False
        self.worker.client.flush()


def exit_this_actor() -> None:
    """End the actor in which this is called; the call that does so gives an ActorDiedError."""
    raise ActorExit

"""A `concurrent.futures.Executor` over all nodes: `submit` and `map` for programs that know nothing else of this.

Each call is a task. What the standard library's pools do is done here too. Results come in order, errors as they were
raised; `as_completed`, `wait`, cancelling and an initializer for each process are there. One thing differs, because
tasks are no pool of processes. A worker that dies fails (or repeats, by `max_retries`) its own call alone, and the
executor goes on.
Rejected: a pool of actors (calls would be bound to a process before it is free, and not move when nodes come or go).
"""

from __future__ import annotations

import concurrent.futures
import itertools
import threading
import time
import uuid
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import hpc

T = TypeVar("T")

#: Executors whose initializer has run in this process, with the error that it raised.
_initialized: dict[str, BaseException | None] = {}


class InitializerFailed(concurrent.futures.BrokenExecutor):
    """The initializer raised in a worker, so that no call can run there. The cause is what it raised."""


def _prepare(key: str, initializer: Callable[..., Any], initargs: tuple[Any, ...]) -> None:
    if key not in _initialized:
        try:
            initializer(*initargs)
            _initialized[key] = None
        except BaseException as error:
            _initialized[key] = error
    failure = _initialized[key]
    if failure is not None:
        raise InitializerFailed(f"the initializer failed: {type(failure).__name__}: {failure}") from failure


def _call(before: tuple[Any, ...] | None, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if before is not None:
        _prepare(*before)
    return fn(*args, **kwargs)


def _call_each(before: tuple[Any, ...] | None, fn: Callable[..., Any], chunk: list[tuple[Any, ...]]) -> list[Any]:
    if before is not None:
        _prepare(*before)
    return [fn(*args) for args in chunk]


class TaskFuture(concurrent.futures.Future[Any]):
    """A Future of one call. `cancel` withdraws a call that waits and interrupts one that runs, as `hpc.cancel` does."""

    _ref: Any = None

    def cancel(self) -> bool:
        """Cancel the call; False when it is done already."""
        if not super().cancel():
            return False
        ref = self._ref
        if ref is not None:
            hpc.cancel(ref)
        return True


class Executor(concurrent.futures.Executor):
    """Runs calls as tasks on all nodes of the session.

    max_workers: at most this many calls at a time (default: as many as the nodes have room for). initializer, initargs:
    called once in each worker process before its first call. options: of each task, as in `RemoteFunction.options`:
    num_cpus, num_gpus, memory, resources, runtime_env, max_retries, scheduling_strategy ...

    Raises ValueError for a max_workers below 1 and for options that a task has not. Starts a session, or joins the one
    that is there, as `hpc.init` does.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
        **options: Any,
    ) -> None:
        if max_workers is not None and max_workers < 1:
            raise ValueError(f"max_workers must be 1 or more, not {max_workers}")
        if initializer is not None and not callable(initializer):
            raise TypeError(f"initializer must be callable, not {initializer!r}")
        if not hpc.is_initialized():
            hpc.init()
        self._before = None if initializer is None else (uuid.uuid4().hex, initializer, tuple(initargs))
        self._one = hpc.remote(_call).options(**options)
        self._many = hpc.remote(_call_each).options(**options)
        self._limit = max_workers
        self._lock = threading.Lock()
        self._waiting: deque[tuple[TaskFuture, Any, tuple[Any, ...]]] = deque()
        self._running = 0
        self._pending: weakref.WeakSet[TaskFuture] = weakref.WeakSet()
        self._closed = False

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[T]:
        """Start a call of `fn` on any node. RuntimeError after `shutdown`."""
        return self._start(self._one, (self._before, fn, args, kwargs))

    def map(
        self, fn: Callable[..., T], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[T]:
        """The results of `fn` over the iterables, in their order.

        timeout: seconds from now until a result is there, else TimeoutError. chunksize: values that travel together as
        one task; larger ones serve short calls. Calls that are left when the iterator ends early are cancelled.
        """
        if chunksize < 1:
            raise ValueError(f"chunksize must be 1 or more, not {chunksize}")
        end = None if timeout is None else time.monotonic() + timeout
        values = zip(*iterables, strict=False)
        chunks = iter(lambda: list(itertools.islice(values, chunksize)), [])
        futures = deque(self._start(self._many, (self._before, fn, chunk)) for chunk in chunks)
        return self._results(futures, end)

    @staticmethod
    def _results(futures: deque[TaskFuture], end: float | None) -> Iterator[Any]:
        try:
            while futures:
                left = None if end is None else max(0.0, end - time.monotonic())
                found = futures[0].result(left)
                futures.popleft()
                yield from found
        finally:
            for future in futures:
                future.cancel()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls. wait: until all are done. cancel_futures: cancel those that have not begun here yet."""
        with self._lock:
            self._closed = True
            left = [entry[0] for entry in self._waiting] if cancel_futures else []
        for future in left:
            future.cancel()
        if wait:
            concurrent.futures.wait(list(self._pending))

    # -------------------------------------------------------------- calls on their way

    def _start(self, task: Any, arguments: tuple[Any, ...]) -> TaskFuture:
        future = TaskFuture()
        with self._lock:
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._pending.add(future)
            if self._limit is not None and self._running >= self._limit:
                self._waiting.append((future, task, arguments))
                return future
            self._running += 1
        self._send(future, task, arguments)
        return future

    def _send(self, future: TaskFuture, task: Any, arguments: tuple[Any, ...]) -> None:
        try:
            ref = task.remote(*arguments)
        except BaseException as error:  # it cannot be pickled, an argument is none of ours: the call's own error
            self._next()
            if future.set_running_or_notify_cancel():
                future.set_exception(error)
            return
        future._ref = ref
        if future.cancelled():  # meanwhile, by another thread that saw no reference yet
            hpc.cancel(ref)
        ref.future().add_done_callback(lambda done: self._settle(future, done))

    def _settle(self, future: TaskFuture, done: concurrent.futures.Future[Any]) -> None:
        self._next()
        if not future.set_running_or_notify_cancel():
            return
        error = done.exception()
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(done.result())
        future._ref = None

    def _next(self) -> None:
        """One call is over: begin the first of those that wait."""
        while True:
            with self._lock:
                if not self._waiting:
                    self._running -= 1
                    return
                future, task, arguments = self._waiting.popleft()
            if not future.cancelled():
                self._send(future, task, arguments)
                return
            future.set_running_or_notify_cancel()

"""`@serve.batch`: calls of a function one by one become calls with lists.

The queue is pure: it says which calls make a batch now, and when it has to be asked again. A batch goes out when it is
full, or when its first call has waited long enough, and not more of them run than may. While they do, calls gather.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from functools import wraps
from typing import Any

from hpc.serve import metrics
from hpc.serve.context import (
    NO_REQUEST,
    RequestContext,
    current_batch,
    current_request,
    replica_context,
    shared_context,
)
from hpc.serve.exceptions import RayServeException

logger = logging.getLogger("hpc.serve")
#: An item of a streamed batch that ends its caller's stream.
SENTINELS = (StopIteration, StopAsyncIteration)
TIMES_MS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 5000.0)
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)


class BatchItem:
    """A call that waits for its batch."""

    __slots__ = ("arguments", "context", "future", "put_at", "shape")

    def __init__(
        self, arguments: tuple[Any, ...], shape: tuple[str, ...], future: Any, context: RequestContext
    ) -> None:
        self.arguments = arguments
        self.shape = shape
        self.future = future
        self.context = context
        self.put_at = 0.0

    @property
    def is_dropped(self) -> bool:
        """Whether nobody waits for it any more."""
        return bool(self.future.cancelled())


class TooLarge(RuntimeError):
    """One call alone is larger than a batch."""

    def __init__(self) -> None:
        super().__init__(
            "Size of item is greater than max_batch_size. Please increase the max_batch_size or check the "
            "implementation of the batch_size_fn."
        )


class BatchQueue:
    """The calls that wait, in order. ``size_of`` gives the size of a list of calls; without one it is their number."""

    def __init__(
        self,
        max_size: int,
        wait_s: float,
        max_running: int,
        size_of: Callable[[Sequence[BatchItem]], int] | None = None,
    ) -> None:
        self.max_size = max_size
        self.wait_s = wait_s
        self.max_running = max_running
        self.size_of = size_of
        self.running = 0
        self._items: deque[BatchItem] = deque()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: BatchItem, now: float) -> None:
        """A call comes."""
        item.put_at = now
        self._items.append(item)

    def take(self, now: float) -> list[BatchItem]:
        """The batch that goes out now; [] where none does. `finished` is called once it has run.

        Raises what ``size_of`` raises, and TooLarge; the call that is to blame is the first, see `drop_first`."""
        self._sweep()
        if not self._items or self.running >= self.max_running:
            return []
        count, is_full = self._count()
        if not is_full and now < self._items[0].put_at + self.wait_s:
            return []
        self.running += 1
        return [self._items.popleft() for _ in range(count)]

    def finished(self) -> None:
        """A batch has run."""
        self.running -= 1

    def drop_first(self) -> BatchItem:
        """Take out the first call."""
        return self._items.popleft()

    def next_at(self) -> float | None:
        """When `take` may have a batch, if nothing else happens before. None: not before a call comes or a batch
        ends."""
        if not self._items or self.running >= self.max_running:
            return None
        return self._items[0].put_at + self.wait_s

    def _sweep(self) -> None:
        """Calls that were cancelled take no place in a batch."""
        if any(item.is_dropped for item in self._items):
            self._items = deque(item for item in self._items if not item.is_dropped)

    def _count(self) -> tuple[int, bool]:
        """How many of the first calls make a batch, and whether no further one would fit."""
        if self.size_of is None:
            count = min(len(self._items), self.max_size)
            return count, count >= self.max_size
        taken: list[BatchItem] = []
        size = 0
        for item in self._items:
            taken.append(item)
            try:
                size = self.size_of(taken)
            except Exception:
                if len(taken) == 1:
                    raise
                return len(taken) - 1, True  # the last one is to blame: the others go without it
            if size > self.max_size:
                if len(taken) == 1:
                    raise TooLarge
                return len(taken) - 1, True
        return len(taken), size >= self.max_size


def sub_batches(batch: Sequence[BatchItem]) -> list[list[BatchItem]]:
    """The calls of a batch by the model that they want, and by the parameters that they give: each its own list."""
    found: dict[tuple[str, tuple[str, ...]], list[BatchItem]] = {}
    for item in batch:
        found.setdefault((item.context.multiplexed_model_id, item.shape), []).append(item)
    return list(found.values())


class _Settings:
    """What the decorator was given; the setters of the decorated function change it."""

    def __init__(self, max_size: int, wait_s: float, max_running: int, size_fn: Callable[..., int] | None) -> None:
        self.max_size = max_size
        self.wait_s = wait_s
        self.max_running = max_running
        self.size_fn = size_fn

    def size_of(self, items: Sequence[BatchItem]) -> int:
        """The size of calls, by the user's function."""
        assert self.size_fn is not None
        return int(self.size_fn([item.arguments[0] for item in items]))


class Batcher:
    """The batches of one function on one event loop, for one object where it is a method."""

    def __init__(self, function: Callable[..., Any], owner: Any, settings: _Settings) -> None:
        self._function = function
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        #: Of no request: what a batch begins is not cancelled with the one call that has filled it.
        self._context = shared_context(NO_REQUEST)
        self.queue = BatchQueue(
            settings.max_size, settings.wait_s, settings.max_running, settings.size_of if settings.size_fn else None
        )
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._numbers = _Numbers(function.__name__)
        self.warn()

    def warn(self) -> None:
        """Say so where a batch cannot become full."""
        replica = replica_context()
        allowed = getattr(getattr(replica, "_deployment_config", None), "max_ongoing_requests", None)
        wanted = self.queue.max_size * self.queue.max_running
        if allowed is not None and allowed < wanted:
            logger.warning(
                f"`max_batch_size` ({self.queue.max_size}) * `max_concurrent_batches` ({self.queue.max_running}) is "
                f"larger than `max_ongoing_requests` ({allowed}). This means the replica will never achieve the "
                "configured `max_batch_size` concurrently. Please update `max_ongoing_requests` to be >= "
                "`max_batch_size` * `max_concurrent_batches`."
            )

    def put(self, arguments: tuple[Any, ...], shape: tuple[str, ...]) -> asyncio.Future[Any]:
        """A call; the future has its value."""
        future = self._loop.create_future()
        self.queue.put(BatchItem(arguments, shape, future, current_request.get()), time.monotonic())
        self.advance()
        return future

    def advance(self) -> None:
        """Send out what may go, and come back when the next may."""
        queue = self.queue
        now = time.monotonic()
        while True:
            try:
                batch = queue.take(now)
            except Exception as error:
                known = RuntimeError(str(error)) if isinstance(error, TooLarge) else error
                _fail(queue.drop_first().future, known)
                continue
            if not batch:
                break
            task = self._context.copy().run(self._loop.create_task, self._run(batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        at = queue.next_at()
        if at is not None and (self._timer is None or at < self._timer_at):
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = at
            self._timer = self._loop.call_later(max(0.0, at - now), self._timed)

    def _timed(self) -> None:
        self._timer = None
        self.advance()

    async def _run(self, batch: list[BatchItem]) -> None:
        try:
            parts = sub_batches(batch)
            if len(parts) == 1:
                await self._run_part(parts[0])
            else:
                await asyncio.gather(*[self._loop.create_task(self._run_part(part)) for part in parts])
        finally:
            self.queue.finished()
            self.advance()

    async def _run_part(self, part: list[BatchItem]) -> None:
        current_request.set(NO_REQUEST)
        current_batch.set(tuple([item.context for item in part]))
        began = time.monotonic()
        columns = [list(column) for column in zip(*[item.arguments for item in part])]
        given = dict(zip(part[0].shape, columns))
        futures = [item.future for item in part]
        try:
            args = () if self._owner is None else (self._owner,)
            made = self._function(*args, **given) if part[0].shape else self._function(*args)
            if inspect.isasyncgen(made):
                await self._spread(made, futures)
            else:
                results = await made
                _check(results, len(part))
                for future, result in zip(futures, results):
                    if not future.done():
                        future.set_result(result)
        except asyncio.CancelledError:
            for future in futures:
                future.cancel()
            raise
        except Exception as error:
            for future in futures:
                _fail(future, error)
        finally:
            self._numbers.ran(len(part), began - part[0].put_at, time.monotonic() - began, self.queue.max_size)

    async def _spread(self, items: Any, futures: list[asyncio.Future[Any]]) -> None:
        """Give each caller of a streamed batch its items."""
        streams: list[asyncio.Future[Any] | None] = list(futures)
        try:
            async for results in items:
                _check(results, len(streams))
                for at, (stream, result) in enumerate(zip(streams, results)):
                    if stream is not None:
                        streams[at] = self._hand(stream, result)
                if not any(streams):
                    break
            for stream in streams:
                if stream is not None:
                    _fail(stream, StopAsyncIteration())
        except asyncio.CancelledError:
            for stream in streams:
                if stream is not None:
                    stream.cancel()
            raise
        except Exception as error:
            for stream in streams:
                if stream is not None:
                    _fail(stream, error)
        finally:
            await items.aclose()

    def _hand(self, stream: asyncio.Future[Any], result: Any) -> asyncio.Future[Any] | None:
        """Give one caller an item; the future of the next one, or None where the stream has ended."""
        if any(result is sentinel for sentinel in SENTINELS):
            _fail(stream, StopAsyncIteration())
            return None
        if stream.done():  # its caller is gone
            return None
        following = self._loop.create_future()
        stream.set_result((result, following))
        return following


class _Numbers:
    """The metrics of one batched function, by Ray's names."""

    def __init__(self, function: str) -> None:
        keys = ("function_name",)
        self._tags = {"function_name": function}
        self._wait = metrics.Histogram("serve_batch_wait_time_ms", "how long calls waited", TIMES_MS, keys)
        self._run = metrics.Histogram("serve_batch_execution_time_ms", "how long batches ran", TIMES_MS, keys)
        self._size = metrics.Histogram("serve_actual_batch_size", "how many calls batches had", SIZES, keys)
        self._share = metrics.Histogram(
            "serve_batch_utilization_percent", "how full batches were", tuple(range(10, 110, 10)), keys
        )
        self._count = metrics.Counter("serve_batches_processed", "batches that ran", keys)

    def ran(self, size: int, waited_s: float, took_s: float, most: int) -> None:
        """A batch has run."""
        self._wait.observe(max(1e-6, waited_s * 1e3), self._tags)
        self._run.observe(max(1e-6, took_s * 1e3), self._tags)
        self._size.observe(float(size), self._tags)
        self._share.observe(100.0 * size / most, self._tags)
        self._count.inc(1.0, self._tags)


def _check(results: Any, size: int) -> None:
    if not hasattr(results, "__len__") or len(results) != size:
        got = f"list has length {len(results)}" if hasattr(results, "__len__") else f"value is {type(results).__name__}"
        raise RayServeException(
            f"Batched function doesn't preserve batch size. The input list has length {size} but the returned {got}."
        )


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(_Ended() if isinstance(error, SENTINELS) else error)
        future.exception()  # its caller may be gone


class _Ended(Exception):
    """Stands for StopAsyncIteration, which no future takes."""


class _Batched:
    """What the decorator knows: its function, the settings, and the batchers of the objects that have it."""

    def __init__(self, function: Callable[..., Any], settings: _Settings) -> None:
        self.function = function
        self.settings = settings
        self.batchers: dict[tuple[int, int], Batcher] = {}
        names = list(inspect.signature(function).parameters)
        self.is_method = bool(names) and names[0] == "self"
        self.names = tuple(names[1:] if self.is_method else names)

    def __reduce__(self) -> tuple[Any, ...]:  # what waits here stays here
        return _Batched, (self.function, self.settings)

    def put(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> asyncio.Future[Any]:
        """A call of the decorated function."""
        owner = args[0] if self.is_method else None
        given = args[1:] if self.is_method else args
        shape: tuple[str, ...]
        if kwargs or len(given) > len(self.names):
            bound = inspect.signature(self.function).bind(*args, **kwargs).arguments
            shape = tuple(name for name in bound if not (self.is_method and name == "self"))
            given = tuple(bound[name] for name in shape)
        else:
            shape = self.names[: len(given)]
        loop = asyncio.get_running_loop()
        key = id(owner), id(loop)
        batcher = self.batchers.get(key)
        if batcher is None or batcher._loop is not loop:
            batcher = self.batchers[key] = Batcher(self.function, owner, self.settings)
        return batcher.put(given, shape)

    def set_max_batch_size(self, new_max_batch_size: int) -> None:
        """Change the largest size of batches."""
        self.settings.max_size = _whole(new_max_batch_size)
        for batcher in self.batchers.values():
            batcher.queue.max_size = self.settings.max_size
            batcher.warn()
            batcher.advance()

    def set_batch_wait_timeout_s(self, new_batch_wait_timeout_s: float) -> None:
        """Change how long the first call of a batch waits for others."""
        _seconds(new_batch_wait_timeout_s)
        self.settings.wait_s = new_batch_wait_timeout_s
        for batcher in self.batchers.values():
            batcher.queue.wait_s = new_batch_wait_timeout_s
            batcher.advance()


def batch(
    _func: Callable[..., Any] | None = None,
    /,
    max_batch_size: int = 10,
    batch_wait_timeout_s: float = 0.01,
    max_concurrent_batches: int = 1,
    batch_size_fn: Callable[[list[Any]], int] | None = None,
) -> Any:
    """Have calls of a coroutine function come in lists: it gets a list for each parameter and returns a list of as many
    results. An async generator yields such lists; StopIteration in the place of an item ends that caller's stream.

    A batch has ``max_batch_size`` calls at most, by ``batch_size_fn`` or their number. Its first call waits for
    ``batch_wait_timeout_s`` seconds at most, unless ``max_concurrent_batches`` run. The decorated function has
    ``set_max_batch_size`` and ``set_batch_wait_timeout_s``.

    Raises TypeError for what is no coroutine function, and for options of a wrong type; ValueError for wrong values."""
    if _func is not None:
        if not callable(_func):
            raise TypeError("@serve.batch can only be used to decorate functions or methods.")
        if not inspect.iscoroutinefunction(_func) and not inspect.isasyncgenfunction(_func):
            raise TypeError("Functions decorated with @serve.batch must be 'async def'")
    size = _whole(max_batch_size)
    _seconds(batch_wait_timeout_s)
    if not isinstance(max_concurrent_batches, int) or max_concurrent_batches < 1:
        raise TypeError(f"max_concurrent_batches must be an integer >= 1, got {max_concurrent_batches}")
    if batch_size_fn is not None and not callable(batch_size_fn):
        raise TypeError(f"batch_size_fn must be a callable or None, got {type(batch_size_fn)}")
    settings = _Settings(size, batch_wait_timeout_s, max_concurrent_batches, batch_size_fn)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        if not inspect.iscoroutinefunction(function) and not inspect.isasyncgenfunction(function):
            raise TypeError("Functions decorated with @serve.batch must be 'async def'")
        return _decorated(_Batched(function, settings))

    return decorate(_func) if _func is not None else decorate


def _decorated(batched: _Batched) -> Callable[..., Any]:
    function = batched.function

    @wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        return await batched.put(args, kwargs)

    @wraps(function)
    def stream(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        return _items(batched.put(args, kwargs))

    wrapper: Any = stream if inspect.isasyncgenfunction(function) else call
    wrapper._hpc_on_loop = True
    wrapper.set_max_batch_size = batched.set_max_batch_size
    wrapper.set_batch_wait_timeout_s = batched.set_batch_wait_timeout_s
    wrapper._get_max_batch_size = lambda: batched.settings.max_size
    wrapper._get_batch_wait_timeout_s = lambda: batched.settings.wait_s
    made: Callable[..., Any] = wrapper
    return made


async def _items(future: asyncio.Future[Any]) -> AsyncIterator[Any]:
    """The items of one caller of a streamed batch."""
    try:
        while True:
            try:
                item, future = await future
            except _Ended:
                return
            yield item
    finally:
        future.cancel()


def _whole(size: Any) -> int:
    if not isinstance(size, int) and not (isinstance(size, float) and size.is_integer()):
        raise TypeError(f"max_batch_size must be integer >= 1, got {size}")
    if size < 1:
        raise ValueError(f"max_batch_size must be an integer >= 1, got {size}")
    return int(size)


def _seconds(wait_s: Any) -> None:
    if not isinstance(wait_s, (float, int)):
        raise TypeError(f"batch_wait_timeout_s must be a float >= 0, got {wait_s}")
    if wait_s < 0:
        raise ValueError(f"batch_wait_timeout_s must be a float >= 0, got {wait_s}")

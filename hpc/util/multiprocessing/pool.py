"""Pool: the standard library's interface; the processes are actors, on all nodes of the session."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Literal

import hpc
from hpc.util.multiprocessing.dispatch import Chunk, Dispatcher
from hpc.util.multiprocessing.results import AsyncResult, Callback, ResultIterator
from hpc.util.multiprocessing.worker import FULL, ONE, STAR, PoolWorker
from hpc.util.scheduling_strategies import NodeAffinitySchedulingStrategy

#: Chunks per process that `map` makes of its items, as in the standard library.
CHUNKS_PER_PROCESS = 4
#: Chunks per process that `imap` has submitted ahead of the results that were taken.
AHEAD = 2
#: Options that say where a process can go; with one of them the scheduler places it.
PLACING = {"num_cpus", "num_gpus", "memory", "resources", "accelerator_type", "label_selector", "scheduling_strategy"}
PoolState = Literal["running", "closed", "terminated"]


class Pool:
    """A pool of processes, used as ``multiprocessing.Pool``.

    processes: how many; by default the CPUs of the session. They hold no CPU, so there may be more of them.
    initializer, initargs: called in each process as it starts. What it raises, this constructor raises.
    maxtasksperchild: chunks of work after which a process is replaced by a new one.
    context: not used; a warning says so.
    ray_address: as the address of `hpc.init`, if this process is not connected yet.
    ray_remote_args: options of the actors, as for ``.options()``: ``{"num_gpus": 1}``.

    Processes are dealt out to nodes in proportion to their CPUs, unless ``ray_remote_args`` say what they need. A pool
    can be given to tasks and actors. Their copies use the same processes, which end when one of the copies is closed or
    terminated, or all are dropped. With ``maxtasksperchild`` it cannot.
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: Iterable[Any] | None = None,
        maxtasksperchild: int | None = None,
        context: Any = None,
        ray_address: str | None = None,
        ray_remote_args: dict[str, Any] | None = None,
    ) -> None:
        _check(processes, initializer, maxtasksperchild)
        if context is not None:
            warnings.warn("the context of a Pool is not used: its processes are actors of the session", stacklevel=2)
        if not hpc.is_initialized():
            hpc.init(address=ray_address)
        cpus = _cpus_by_node()
        self._processes = processes if processes is not None else max(1, int(sum(cpus.values())))
        self._most = maxtasksperchild
        options = {"num_cpus": 0, **(ray_remote_args or {})}
        nodes = [] if PLACING & set(ray_remote_args or {}) else _deal(cpus, self._processes)
        # The dispatcher's thread has this: it must not hold the pool itself, which could never be dropped.
        make = partial(_make, hpc.remote(PoolWorker), options, nodes, (initializer, tuple(initargs or ())))
        dispatcher = Dispatcher(make, [make(place) for place in range(self._processes)], maxtasksperchild)
        dispatcher.wait_ready()
        self._begin(dispatcher)

    def _begin(self, dispatcher: Dispatcher) -> None:
        self._state: PoolState = "running"
        self._feeds: weakref.WeakSet[ResultIterator] = weakref.WeakSet()
        self._dispatcher = dispatcher
        dispatcher.start()
        self._finalizer = weakref.finalize(self, dispatcher.drop)
        self._finalizer.atexit = False  # the session's end comes then

    # -------------------------------------------------------------- one call

    def apply(self, func: Callable[..., Any], args: Sequence[Any] = (), kwargs: Any = None, *, kwds: Any = None) -> Any:
        """``func(*args, **kwargs)`` in one of the processes."""
        return self.apply_async(func, args, kwargs, kwds=kwds).get()

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
        callback: Callback = None,
        error_callback: Callback = None,
        *,
        kwds: dict[str, Any] | None = None,
    ) -> AsyncResult:
        """`apply` without waiting. ``callback`` is called with the value, ``error_callback`` with the exception, on
        a thread of the pool that must not be held up. ``kwds`` is the standard library's name for ``kwargs``."""
        self._check_running()
        if kwargs and kwds:
            raise TypeError("give keyword arguments as kwargs or as kwds, not as both")
        result = AsyncResult(self, 1, True, callback, error_callback)
        item = (tuple(args or ()), dict(kwargs or kwds or {}))
        self._dispatcher.submit(Chunk("", func, FULL, [item], partial(result._finish, 0)))
        return result

    # -------------------------------------------------------------- many calls

    def map(self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None) -> list[Any]:
        """``[func(item) for item in iterable]``, in the processes. Raises what a call raised, after all are done."""
        values: list[Any] = self.map_async(func, iterable, chunksize).get()
        return values

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callback = None,
        error_callback: Callback = None,
    ) -> AsyncResult:
        """`map` without waiting; callbacks as for `apply_async`, called once."""
        return self._map(func, ONE, iterable, chunksize, callback, error_callback)

    def starmap(
        self, func: Callable[..., Any], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[Any]:
        """``[func(*item) for item in iterable]``, in the processes."""
        values: list[Any] = self.starmap_async(func, iterable, chunksize=chunksize).get()
        return values

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        callback: Callback = None,
        error_callback: Callback = None,
        *,
        chunksize: int | None = None,
    ) -> AsyncResult:
        """`starmap` without waiting; callbacks as for `apply_async`, called once. The standard library has
        ``chunksize`` third; here it is given by name."""
        return self._map(func, STAR, iterable, chunksize, callback, error_callback)

    def _map(
        self,
        func: Callable[..., Any],
        how: int,
        iterable: Iterable[Any],
        chunksize: int | None,
        callback: Callback,
        error_callback: Callback,
    ) -> AsyncResult:
        self._check_running()
        for name, given in (("callback", callback), ("error_callback", error_callback)):
            if given is not None and not callable(given):
                raise TypeError(f"{name} must be callable, not {given!r}; a chunksize is given by name")
        items = list(iterable)
        if chunksize is None:
            chunksize = -(-len(items) // (self._processes * CHUNKS_PER_PROCESS)) or 1
        _check_chunksize(chunksize)
        starts = range(0, len(items), chunksize)
        result = AsyncResult(self, len(starts), False, callback, error_callback)
        if not items:
            result._complete()
            return result
        shared = hpc.put(func)
        for part, at in enumerate(starts):
            chunk = items[at : at + chunksize]
            self._dispatcher.submit(Chunk(shared.hex(), shared, how, chunk, partial(result._finish, part)))
        return result

    def imap(self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = 1) -> ResultIterator:
        """An iterator over the results in the order of the items. The items are taken from the iterable step by step:
        at most two chunks for each process are ahead of the results taken."""
        return self._imap(func, iterable, chunksize, True)

    def imap_unordered(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = 1
    ) -> ResultIterator:
        """`imap`, with the results as they come."""
        return self._imap(func, iterable, chunksize, False)

    def _imap(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None, ordered: bool
    ) -> ResultIterator:
        self._check_running()
        size = 1 if chunksize is None else chunksize
        _check_chunksize(size)
        shared, submit = hpc.put(func), self._dispatcher.submit

        def send(items: list[Any], finish: Callable[..., None]) -> None:
            submit(Chunk(shared.hex(), shared, ONE, items, finish))

        feed = ResultIterator(self, send, iterable, size, AHEAD * self._processes, ordered)
        self._feeds.add(feed)
        return feed

    # -------------------------------------------------------------- the end

    def close(self) -> None:
        """Take no more work; the processes end when all that was submitted is done."""
        if self._state == "running":
            self._state = "closed"
            for feed in list(self._feeds):
                feed.pull(everything=True)
            self._dispatcher.close()

    def terminate(self) -> None:
        """End the processes now. Results that are still awaited raise RuntimeError."""
        self._state = "terminated"
        self._dispatcher.terminate()

    def join(self) -> None:
        """Wait until the processes have ended. Raises ValueError before `close` or `terminate`."""
        if self._state == "running":
            raise ValueError("the pool is still running: close() or terminate() it first")
        self._dispatcher.join()

    def __enter__(self) -> Pool:
        self._check_running()
        return self

    def __exit__(self, *_error: object) -> None:
        self.terminate()

    def __reduce__(self) -> Any:
        if self._most is not None:
            raise TypeError(
                "a Pool with maxtasksperchild cannot be passed to another process: its processes are replaced by the "
                "one that made it; make one there"
            )
        actors = self._dispatcher.share()
        return _copy, (type(self), self._processes, self._state, actors)

    def __repr__(self) -> str:
        return f"<Pool of {self._processes} processes, {self._state}>"

    def _check_running(self) -> None:
        if self._state != "running":
            raise ValueError("the pool is not running: it was closed or terminated")


def _copy(kind: type[Pool], processes: int, state: PoolState, actors: list[Any]) -> Pool:
    """A pool that came from another process: over the same actors."""
    pool = kind.__new__(kind)
    pool._processes, pool._most = processes, None
    dispatcher = Dispatcher(None, actors, None)
    dispatcher.shared = True
    pool._begin(dispatcher)
    if state != "running":
        pool._state = state
        dispatcher.close()
    return pool


def _check(processes: int | None, initializer: Any, maxtasksperchild: int | None) -> None:
    for name, value in (("processes", processes), ("maxtasksperchild", maxtasksperchild)):
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} must be an integer, not {type(value).__name__}")
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
    if initializer is not None and not callable(initializer):
        raise TypeError("initializer must be callable")


def _check_chunksize(chunksize: int) -> None:
    if chunksize < 1:
        raise ValueError(f"chunksize must be at least 1, not {chunksize}")


def _cpus_by_node() -> dict[str, float]:
    """The CPUs of the nodes that live and have some."""
    rows = hpc.nodes()
    return {row["NodeID"]: row["Resources"]["CPU"] for row in rows if row["Alive"] and row["Resources"].get("CPU")}


def _deal(cpus: dict[str, float], count: int) -> list[str]:
    """A node for each of ``count`` processes, so that each node has them in proportion to its CPUs."""
    dealt = dict.fromkeys(cpus, 0)
    order = []
    for _ in range(count if cpus else 0):
        node = min(cpus, key=lambda node: (dealt[node] + 1) / cpus[node])
        dealt[node] += 1
        order.append(node)
    return order


def _make(worker: Any, options: dict[str, Any], nodes: list[str], init: tuple[Any, tuple[Any, ...]], place: int) -> Any:
    """An actor for this place in the pool."""
    if nodes:
        options = {**options, "scheduling_strategy": NodeAffinitySchedulingStrategy(nodes[place], soft=True)}
    return worker.options(**options).remote(*init)


__all__ = ["Pool"]

"""Functions of users: what each may be, how it is called, and what is said when it fails."""

from __future__ import annotations

import functools
import inspect
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from hpc.data.block import build
from hpc.data.transform import aio
from hpc.data.transform.base import TaskContext
from hpc.exceptions import UserCodeException

#: Rows that a function returns become a table in pieces: small at first, since nobody knows how large a row is.
FIRST_PIECE, MOST_ROWS, PIECE_BYTES = 16, 8192, 8 << 20


class Udf:
    """A function of a user with its arguments: a function, an object that can be called, or a class of such objects.

    Of a class one object is made in each process: at `begin`, or at the first call. It is called by one thread at a
    time, unless `parallel`. Raises TypeError for what cannot be called, ValueError for arguments of a constructor that
    there is not.
    """

    def __init__(
        self,
        verb: str,
        fn: Any,
        fn_args: Iterable[Any] | None = None,
        fn_kwargs: Mapping[str, Any] | None = None,
        fn_constructor_args: Iterable[Any] | None = None,
        fn_constructor_kwargs: Mapping[str, Any] | None = None,
        parallel: bool = False,
    ) -> None:
        self.verb = verb
        self.fn = fn
        self.args = tuple(fn_args or ())
        self.kwargs = dict(fn_kwargs or {})
        self.constructor_args = tuple(fn_constructor_args or ())
        self.constructor_kwargs = dict(fn_constructor_kwargs or {})
        self.parallel = parallel
        self.is_class = isinstance(fn, type)
        if self.is_class and not any("__call__" in vars(base) for base in fn.__mro__):
            raise TypeError(f"{verb} needs a class whose objects can be called: {self.name} has no __call__")
        if not callable(fn):
            raise TypeError(f"{verb} needs a function or a class whose objects can be called, not {fn!r}")
        if not self.is_class:
            for word in ("fn_constructor_args", "fn_constructor_kwargs"):
                if {"fn_constructor_args": fn_constructor_args, "fn_constructor_kwargs": fn_constructor_kwargs}[word]:
                    raise ValueError(f"{word} can only be given with a class, and fn is {fn!r}")
        self._reset()

    def _reset(self) -> None:
        self.target: Callable[..., Any] | None = None if self.is_class else self.fn
        self.lock = None if self.parallel or not self.is_class else threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("target", "lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._reset()

    @functools.cached_property
    def name(self) -> str:
        """What the function is called."""
        fn = self.fn
        while isinstance(fn, functools.partial):
            fn = fn.func
        return getattr(fn, "__name__", type(fn).__name__)

    @functools.cached_property
    def where(self) -> str:
        """The function, for errors."""
        return f"{self.verb}'s function {self.name}"

    def begin(self) -> None:
        """Make the object of a class, if there is none yet. Raises what its constructor raises."""
        if self.target is None:
            self.bind(self.fn(*self.constructor_args, **self.constructor_kwargs))

    def bind(self, instance: Any) -> None:
        """Call this object from now on."""
        self.target = instance

    @functools.cached_property
    def kind(self) -> str:
        """ "plain", "coroutine" or "asyncgen": what a call gives."""
        fn = self.fn
        while isinstance(fn, functools.partial):
            fn = fn.func
        call = fn if inspect.isroutine(fn) else getattr(fn, "__call__", None)  # noqa: B004
        if self.is_class:
            call = self.fn.__call__
        if inspect.isasyncgenfunction(call):
            return "asyncgen"
        return "coroutine" if inspect.iscoroutinefunction(call) else "plain"

    def caller(self) -> Callable[[Any], Any]:
        """What takes an item, and calls the function with it and the arguments."""
        self.begin()
        target, args, kwargs, lock = self.target, self.args, self.kwargs, self.lock
        assert target is not None
        if not args and not kwargs:
            call = target
        else:
            call = lambda item: target(item, *args, **kwargs)  # noqa: E731
        if lock is None or self.kind != "plain":
            return call

        def one_at_a_time(item: Any) -> Any:
            with lock:
                return call(item)

        return one_at_a_time

    def failed(self, error: Exception, what: str, task: TaskContext, hint: str = "") -> Exception:
        """What is raised for an error of the function: it names the function and its input, and has the error as cause.

        With `DataContext.raise_original_map_exception` it is the error itself.
        """
        if getattr(task.context, "raise_original_map_exception", False):
            return error
        source = f" from {task.source}" if task.source else ""
        said = f"{self.where} failed on {what}{source}: {type(error).__name__}: {error}{hint}"
        wrapped = UserCodeException(said)
        wrapped.__cause__ = error
        return wrapped

    def results(self, items: Iterable[Any], most: int, task: TaskContext) -> Iterator[list[Any]]:
        """For each item, in order, the list of what a coroutine or an async generator gives; `most` run at a time."""
        call, kind = self.caller(), self.kind
        return aio.in_order(call, kind == "asyncgen", items, most)


class Pieces:
    """Rows of users become tables, in pieces whose size follows that of the rows seen so far."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.limit = FIRST_PIECE

    def tables(self, results: Iterator[Any], failed: Callable[[Exception, int], Exception]) -> Iterator[pa.Table]:
        """The tables of these rows. `failed` says what to raise for an error of the iterator, after so many rows."""
        done = 0
        while True:
            try:
                part: Sequence[Any] = list(itertools.islice(results, self.limit))
            except Exception as error:
                raise failed(error, done) from error
            if not part:
                return
            table = build.from_rows(part, self.where)
            if len(part) < self.limit:  # there are no more
                yield table
                return
            done += len(part)
            each = table.nbytes // len(part)
            self.limit = max(1, min(self.limit * 8, MOST_ROWS, PIECE_BYTES // max(1, each)))
            yield table

"""Functions of users in expressions: each gets whole columns of a block and gives one."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from hpc.data.block import build
from hpc.data.block.nanoseconds import bring_pandas
from hpc.data.datatype import DataType
from hpc.data.expr.base import Node, Run
from hpc.data.expr.kernels import COLUMNS
from hpc.data.expr.nodes import Expr, as_expr


class ClassUdf:
    """A class of callable objects: one object is made in each process, when it is first called."""

    def __init__(self, cls: type, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self.cls = cls
        self.args = args
        self.kwargs = dict(kwargs)
        self.instance: Any = None
        self.lock = threading.Lock()
        self.__name__ = cls.__name__

    def __getstate__(self) -> dict[str, Any]:
        return {"cls": self.cls, "args": self.args, "kwargs": self.kwargs}

    def __setstate__(self, state: dict[str, Any]) -> None:
        ClassUdf.__init__(self, state["cls"], state["args"], state["kwargs"])

    def __eq__(self, other: object) -> bool:
        mine = (self.cls, repr(self.args), repr(self.kwargs))
        return isinstance(other, ClassUdf) and mine == (other.cls, repr(other.args), repr(other.kwargs))

    def __hash__(self) -> int:
        return hash((self.cls, repr(self.args), repr(self.kwargs)))

    def begin(self) -> None:
        """Make the object, if there is none yet."""
        with self.lock:
            if self.instance is None:
                self.instance = self.cls(*self.args, **self.kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.begin()
        return self.instance(*args, **kwargs)


@dataclass(frozen=True, eq=False, repr=False)
class UDFExpr(Expr):
    """A function of a user on expressions. A result that is no column raises TypeError."""

    fn: Callable[..., Any]
    args: tuple[Expr, ...]
    kwargs: Mapping[str, Expr]
    data_type: DataType

    def children(self) -> tuple[Node, ...]:
        return (*self.args, *self.kwargs.values())

    def with_children(self, children: tuple[Any, ...]) -> Node:
        count = len(self.args)
        kwargs = dict(zip(self.kwargs, children[count:]))
        return UDFExpr(self.fn, children[:count], kwargs, self.data_type)

    def key(self) -> Any:
        return (self.fn, tuple(self.kwargs))

    def label(self) -> str:
        return f"UDF({getattr(self.fn, '__name__', type(self.fn).__name__)})"

    def labels(self) -> tuple[str, ...]:
        return (*(f"arg[{at}]" for at in range(len(self.args))), *(f"kwarg[{name!r}]" for name in self.kwargs))

    def value(self, table: pa.Table, run: Run) -> Any:
        given = [self._given(arg, table, run) for arg in self.args]
        named = {name: self._given(arg, table, run) for name, arg in self.kwargs.items()}
        return self._column(self.fn(*given, **named), table)

    def _given(self, arg: Expr, table: pa.Table, run: Run) -> Any:
        found = arg.evaluated(table, run)
        if isinstance(found, COLUMNS):
            bring_pandas(found.type)
        return pa.chunked_array([found]) if isinstance(found, pa.Array) else found

    def _column(self, result: Any, table: pa.Table) -> Any:
        if inspect.iscoroutine(result):
            result = _awaited(result)
        elif inspect.isasyncgen(result):
            result = _awaited(_last(result))
        if isinstance(result, COLUMNS):
            return result
        if isinstance(result, np.ndarray):
            return build.array_column(result)
        if build.is_a(result, "pandas", "Series"):
            return pa.array(result, from_pandas=True)
        raise TypeError(
            f"the function {getattr(self.fn, '__name__', self.fn)!r} of an expression returned a "
            f"{type(result).__name__}: it must return an Array of pyarrow, a numpy array or a Series of pandas"
        )

    def get_type(self, input_schema: pa.Schema) -> pa.DataType | None:
        """The type that was declared: the function is not called to find out."""
        try:
            return self.data_type.to_arrow_dtype()
        except AssertionError:
            return None

    def nullable(self, input_schema: pa.Schema) -> bool:
        return True


async def _last(results: Any) -> Any:
    found = [one async for one in results]
    return found[-1] if found else None


def _awaited(coroutine: Any) -> Any:
    """What a coroutine gives; it runs in the loop of the process."""
    import asyncio

    from hpc.data.expr import loop

    return asyncio.run_coroutine_threadsafe(coroutine, loop.running()).result()


def _expressions(fn: Any, kind: DataType) -> Callable[..., UDFExpr]:
    def call(*args: Any, **kwargs: Any) -> UDFExpr:
        named = {name: as_expr(value) for name, value in kwargs.items()}
        return UDFExpr(fn, tuple(as_expr(arg) for arg in args), named, kind)

    if isinstance(fn, ClassUdf):
        call.__name__ = fn.__name__
        return call
    return functools.update_wrapper(call, fn)


def _decorator(return_dtype: DataType) -> Callable[[Any], Any]:
    if not isinstance(return_dtype, DataType):
        raise TypeError(f"return_dtype must be a DataType, as DataType.int64() is, and not {return_dtype!r}")

    def decorate(fn: Any) -> Any:
        if not isinstance(fn, type):
            return _expressions(fn, return_dtype)

        def construct(*args: Any, **kwargs: Any) -> Callable[..., UDFExpr]:
            return _expressions(ClassUdf(fn, args, kwargs), return_dtype)

        return functools.update_wrapper(construct, fn, updated=())

    return decorate


def udf(return_dtype: DataType) -> Callable[[Any], Any]:
    """Make of a function one that takes expressions and gives an expression.

    The function gets a ChunkedArray of pyarrow for each expression, and literals as they are; it returns an array of
    as many values. A class is given the arguments of its constructor first: one object of it is made in each process.
    """
    return _decorator(return_dtype)


def pyarrow_udf(return_dtype: DataType) -> Callable[[Any], Any]:
    """As `udf`, of a function that takes and returns arrays of pyarrow."""
    return _decorator(return_dtype)

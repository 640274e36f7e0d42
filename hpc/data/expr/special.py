"""Expressions that are more than functions of columns: all columns, fields of structs, downloads, ids, random ones."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from hpc.data.block.draws import fractions, key_of
from hpc.data.datatype import DataType
from hpc.data.expr.base import Node, Run
from hpc.data.expr.nodes import FLOAT, ColumnExpr, Expr

#: An id has the number of its task above these bits, and the number of its row in the task below.
ROW_BITS = 33
BINARY, INTEGER, STRING = DataType.binary(), DataType.int64(), DataType.string()
#: Where the dashes of an id stand among its 36 characters, and where its 32 digits.
DASHES = (8, 13, 18, 23)
DIGITS = np.array([at for at in range(36) if at not in DASHES])


@dataclass(frozen=True, eq=False, repr=False)
class StarExpr(Expr):
    """All columns of the input."""

    def label(self) -> str:
        return "COL(*)"

    def value(self, table: pa.Table, run: Run) -> Any:
        raise TypeError("star() stands for several columns: it has no value of its own")

    def expand_projection(self, input_schema: pa.Schema | None) -> Sequence[Expr]:
        if input_schema is None:
            return [self]
        return [ColumnExpr(name) for name in input_schema.names]


@dataclass(frozen=True, eq=False, repr=False)
class UnnestExpr(Expr):
    """The fields of a struct, each as a column."""

    expr: Expr

    def children(self) -> tuple[Node, ...]:
        return (self.expr,)

    def with_children(self, children: tuple[Any, ...]) -> Node:
        return UnnestExpr(*children)

    def label(self) -> str:
        return "UNNEST"

    def value(self, table: pa.Table, run: Run) -> Any:
        raise TypeError("unnest() stands for several columns: give it to with_columns as it is")

    def expand_projection(self, input_schema: pa.Schema | None) -> Sequence[Expr]:
        """The fields.

        Raises ValueError if the type is not known or has two fields of a name, TypeError if it is no struct.
        """
        kind = self.expr.get_type(input_schema if input_schema is not None else pa.schema([]))
        if kind is None:
            raise ValueError("unnest() needs to know the fields: declare return_dtype, or materialize() the dataset")
        if not pa.types.is_struct(kind):
            raise TypeError(f"unnest() requires a struct-typed expression, and this is {kind}")
        names = [field.name for field in kind]
        if len(set(names)) < len(names):
            raise ValueError(f"unnest() cannot give two columns of one name: the fields are {names}")
        return [self.expr.struct.field_by_index(place).alias(name) for place, name in enumerate(names)]


def unnest(expr: Expr) -> UnnestExpr:
    """The fields of a struct, each as a column of with_columns; the struct is evaluated once."""
    if isinstance(expr, UnnestExpr):
        raise TypeError("unnest() cannot be nested inside another unnest()")
    if not isinstance(expr, Expr):
        raise TypeError(f"unnest() expects an expression, got {type(expr).__name__}")
    return UnnestExpr(expr)


@dataclass(frozen=True, eq=False, repr=False)
class DownloadExpr(Expr):
    """The bytes of the files that a column names; null where a file cannot be read."""

    uri_column_name: str
    filesystem: Any = None
    data_type: DataType = BINARY

    def columns(self) -> frozenset[str]:
        return frozenset((self.uri_column_name,))

    def rename(self, mapping: Mapping[str, str]) -> Node:
        return DownloadExpr(mapping.get(self.uri_column_name, self.uri_column_name), self.filesystem)

    def key(self) -> Any:
        return (self.uri_column_name, repr(self.filesystem))

    def label(self) -> str:
        return f"DOWNLOAD({self.uri_column_name!r})"

    def value(self, table: pa.Table, run: Run) -> Any:
        from hpc.data.expr import fetch

        return fetch.contents(ColumnExpr(self.uri_column_name).evaluate(table, run), self.filesystem)

    def get_type(self, input_schema: pa.Schema) -> pa.DataType | None:
        return pa.binary()


@dataclass(frozen=True, eq=False, repr=False)
class MonotonicallyIncreasingIdExpr(Expr):
    """Numbers that grow within a task, and that no other row has."""

    data_type: DataType = INTEGER
    own_repeatable = False

    def key(self) -> Any:
        return id(self)

    def label(self) -> str:
        return "MONOTONICALLY_INCREASING_ID()"

    def value(self, table: pa.Table, run: Run) -> Any:
        place = run.state(self, lambda: [0])
        first = (getattr(run.task, "index", 0) << ROW_BITS) + place[0]
        place[0] += table.num_rows
        return pa.array(np.arange(first, first + table.num_rows, dtype=np.int64))

    def nullable(self, input_schema: pa.Schema) -> bool:
        return False


@dataclass(frozen=True, eq=False, repr=False)
class RandomExpr(Expr):
    """Random numbers from 0 to 1. With a seed they follow from it and the row, and from the run if it is reseeded."""

    seed: int | None = None
    reseed_after_execution: bool = True
    data_type: DataType = FLOAT
    own_repeatable = False

    def key(self) -> Any:
        return (self.seed, self.reseed_after_execution)

    def label(self) -> str:
        if self.seed is None:
            return "RANDOM()"
        return f"RANDOM(seed={self.seed}, reseed_after_execution={self.reseed_after_execution})"

    def value(self, table: pa.Table, run: Run) -> Any:
        return pa.array(
            run.state(self, lambda: Draws(run.task, self.seed, self.reseed_after_execution)).next(table.num_rows)
        )

    def nullable(self, input_schema: pa.Schema) -> bool:
        return False


class Draws:
    """Random numbers from 0 to 1 for the rows of one task.

    With a seed a row's number follows from the seed, and from how often the dataset ran if it is reseeded. And it
    follows from the place of the row in the input, or else in the part of a source."""

    def __init__(self, task: Any, seed: int | None, reseed: bool = True) -> None:
        epoch = getattr(task, "epoch", 0) if reseed else 0
        row = getattr(task, "row", None)
        part = getattr(task, "index", 0) + 1 if row is None else 0
        self._key = key_of(seed, epoch, part)
        self._next = row or 0

    def next(self, rows: int) -> np.ndarray:
        """The numbers of the next rows."""
        first = self._next
        self._next += rows
        return fractions(self._key, first, rows)


@dataclass(frozen=True, eq=False, repr=False)
class UUIDExpr(Expr):
    """A random id (UUID4) for each row."""

    data_type: DataType = STRING
    own_repeatable = False

    def label(self) -> str:
        return "UUID()"

    def value(self, table: pa.Table, run: Run) -> Any:
        rows = table.num_rows
        raw = np.frombuffer(os.urandom(16 * rows), dtype=np.uint8).reshape(rows, 16).copy()
        raw[:, 6] = raw[:, 6] & 0x0F | 0x40
        raw[:, 8] = raw[:, 8] & 0x3F | 0x80
        text = np.full((rows, 36), ord("-"), dtype=np.uint8)
        text[:, DIGITS] = np.frombuffer(raw.tobytes().hex().encode(), dtype=np.uint8).reshape(rows, 32)
        ends = pa.py_buffer(np.arange(rows + 1, dtype=np.int32) * 36)
        return pa.StringArray.from_buffers(rows, ends, pa.py_buffer(text))

    def nullable(self, input_schema: pa.Schema) -> bool:
        return False

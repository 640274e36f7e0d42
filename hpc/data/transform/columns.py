"""Steps that choose, name and make columns, and that filter by an expression."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from hpc.data.block import build
from hpc.data.block.bare import bare, is_bare
from hpc.data.block.passing import passing
from hpc.data.expr.base import Run
from hpc.data.expr.functions import ClassUdf, UDFExpr
from hpc.data.expr.nodes import Expr
from hpc.data.expr.special import RandomExpr
from hpc.data.transform.base import TaskContext
from hpc.data.transform.maps import MapBatches
from hpc.exceptions import UserCodeException


class ColumnStep:
    """Common to steps that make one table of each."""

    keeps_rows = True

    @property
    def name(self) -> str:
        """What plans call it."""
        return type(self).__name__

    def start(self, task: TaskContext) -> Callable[[pa.Table], pa.Table]:
        """What makes a table of a table, in this task."""
        raise NotImplementedError

    def __call__(self, tables: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table]:
        step = self.start(task)
        for table in tables:
            try:
                made = step(table)
            except (KeyError, ValueError, TypeError, ArithmeticError, pa.ArrowException) as error:
                raise self.failed(error, task) from error
            del table
            yield made
            del made  # or its memory is not there for the next one

    def failed(self, error: Exception, task: TaskContext) -> Exception:
        """What is raised for an error: it names the step and what was being read, and has the error as cause."""
        if getattr(task.context, "raise_original_map_exception", False):
            return error
        source = f" from {task.source}" if task.source else ""
        said = error.args[0] if isinstance(error, KeyError) and error.args else error
        return UserCodeException(f"{self.name} failed on rows{source}: {type(error).__name__}: {said}")


class Select(ColumnStep):
    """These columns, in this order."""

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = list(columns)

    def start(self, task: TaskContext) -> Callable[[pa.Table], pa.Table]:
        def select(table: pa.Table) -> pa.Table:
            _there(table, self.columns)
            return table.select(self.columns) if self.columns else bare(table.num_rows)

        return select


class Drop(ColumnStep):
    """All columns but these."""

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = list(columns)

    def start(self, task: TaskContext) -> Callable[[pa.Table], pa.Table]:
        gone = set(self.columns)

        def drop(table: pa.Table) -> pa.Table:
            _there(table, self.columns)
            kept = [name for name in table.column_names if name not in gone]
            return table.select(kept) if kept else bare(table.num_rows)

        return drop


class Rename(ColumnStep):
    """Columns under other names, by their old ones."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = dict(names)

    def start(self, task: TaskContext) -> Callable[[pa.Table], pa.Table]:
        def rename(table: pa.Table) -> pa.Table:
            _there(table, list(self.names))
            new = [self.names.get(name, name) for name in table.column_names]
            if len(set(new)) < len(new):
                raise ValueError(f"two columns would have one name: {new}")
            return table.rename_columns(new)

        return rename


class WithColumns(ColumnStep):
    """More columns, each of an expression of those that were there; one with the name of another takes its place."""

    def __init__(self, columns: Sequence[tuple[str, Expr]]) -> None:
        self.columns = list(columns)

    @property
    def draws(self) -> bool:
        """Whether a seed says which values rows get."""
        return any(is_seeded(expr) for _, expr in self.columns)

    def begin(self) -> None:
        """Make the objects of classes. Raises what their constructors raise."""
        for _, expr in self.columns:
            begin_classes(expr)

    def start(self, task: TaskContext) -> Callable[[pa.Table], pa.Table]:
        run = Run(task)

        def add(table: pa.Table) -> pa.Table:
            run.next_table()
            made = [(name, expr.evaluate(table, run)) for name, expr in self.columns]
            for name, column in made:
                table = put(table, name, column)
            return table

        return add


class FilterExpr(ColumnStep):
    """The rows for which an expression is true; where it is null, it is not."""

    keeps_rows = False

    def __init__(self, expr: Expr) -> None:
        self.expr = expr

    @property
    def name(self) -> str:
        return "Filter"

    @property
    def draws(self) -> bool:
        """Whether a seed says which rows stay."""
        return is_seeded(self.expr)

    def begin(self) -> None:
        """Make the objects of classes. Raises what their constructors raise."""
        begin_classes(self.expr)

    def start(self, task: TaskContext) -> Callable[[pa.Table], pa.Table]:
        run = Run(task)

        def keep(table: pa.Table) -> pa.Table:
            run.next_table()
            mask = self.expr.evaluate(table, run)
            if pa.types.is_null(mask.type):
                return table.slice(0, 0)
            if not pa.types.is_boolean(mask.type):
                raise TypeError(f"a filter needs an expression that is true or false, and this one gives {mask.type}")
            return passing(table, mask)

        return keep

    def failed(self, error: Exception, task: TaskContext) -> Exception:
        return error


class AddColumn(MapBatches):
    """A column that a function makes of a batch: the deprecated form of with_column."""

    verb = "add_column"

    def __init__(self, column: str, fn: Any, *, batch_format: str | None = "pandas", **options: Any) -> None:
        if batch_format not in ("pandas", "pyarrow", "numpy", "default"):
            raise ValueError(f"batch_format of add_column is pandas, pyarrow or numpy, not {batch_format!r}")
        if not callable(fn):
            raise ValueError(f"`fn` must be callable, got {fn!r}")
        super().__init__(fn, batch_format=batch_format, **options)
        self.keeps_rows = True
        self.column = column

    @property
    def name(self) -> str:
        return "MapBatches(add_column)"

    def few(self, given: Any, task: Any) -> None:
        """It needs tables, to which the column is added."""

    def made(self, table: pa.Table, result: Any) -> pa.Table:
        """The block with the column. Raises ValueError for what is no column."""
        if self.batch_format == "pandas":
            if not hasattr(result, "__len__") or isinstance(result, (str, bytes)):
                result = [result] * table.num_rows
            column = build.table({self.column: result}, self.udf.where).column(0)
        elif self.batch_format == "pyarrow":
            if not isinstance(result, (pa.Array, pa.ChunkedArray)):
                raise ValueError(f"{self.udf.where} must return an Array of pyarrow, and returned a {type(result)}")
            column = result
        else:
            if not isinstance(result, np.ndarray):
                raise ValueError(f"{self.udf.where} must return a numpy array, and returned a {type(result)}")
            column = build.array_column(result)
        if len(column) != table.num_rows:
            raise ValueError(f"{self.udf.where} returned {len(column)} values for {table.num_rows} rows")
        return put(table, self.column, column)


def put(table: pa.Table, name: str, column: pa.Array | pa.ChunkedArray) -> pa.Table:
    """The table with a column: in the place of the one of this name, or behind the last."""
    if is_bare(table.schema):
        return pa.table({name: column})
    place = table.schema.get_field_index(name)
    return table.append_column(name, column) if place < 0 else table.set_column(place, name, column)


def begin_classes(expr: Expr) -> None:
    """Make the objects of all classes in an expression."""
    for node in expr.walk():
        if isinstance(node, UDFExpr) and isinstance(node.fn, ClassUdf):
            node.fn.begin()


def is_seeded(expr: Expr) -> bool:
    """Whether an expression has random numbers of a seed."""
    return any(isinstance(node, RandomExpr) and node.seed is not None for node in expr.walk())


def _there(table: pa.Table, names: Sequence[str]) -> None:
    missing = [name for name in names if name not in table.column_names]
    if missing:
        raise KeyError(f"there is no column {missing}: the columns are {table.column_names}")

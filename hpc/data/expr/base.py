"""The tree of an expression: what all nodes have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from hpc.data.block import build
from hpc.data.expr.kernels import COLUMNS

#: An Array or a ChunkedArray of pyarrow.
Column: TypeAlias = Any


class Run:
    """What one task keeps while it evaluates expressions on one table after the other.

    task: its number, the seed and how often the dataset ran before, for expressions that depend on them. A part of
    several expressions that is one object is evaluated once for each table.
    """

    def __init__(self, task: Any = None) -> None:
        self.task = task
        self.kept: dict[int, Any] = {}
        self.values: dict[int, tuple[Node, Any]] = {}

    def state(self, node: Node, make: Callable[[], Any]) -> Any:
        """What a node keeps from table to table."""
        key = id(node)
        if key not in self.kept:
            self.kept[key] = make()
        return self.kept[key]

    def next_table(self) -> None:
        """Forget the values of the table before."""
        self.values.clear()


class Node:
    """A node of the tree. Nodes do not change."""

    #: Whether two evaluations give the same.
    own_repeatable = True

    def children(self) -> tuple[Node, ...]:
        """The nodes below."""
        return ()

    def with_children(self, children: tuple[Node, ...]) -> Node:
        """The same node above others."""
        return self

    def label(self) -> str:
        """How the node is shown."""
        raise NotImplementedError

    def labels(self) -> tuple[str, ...]:
        """How the nodes below are shown."""
        return ("",) * len(self.children())

    def key(self) -> Any:
        """What distinguishes the node from others of its class, beside what is below."""
        return ()

    def value(self, table: pa.Table, run: Run) -> Any:
        """The column, or one value that stands for all rows."""
        raise NotImplementedError

    # -------------------------------------------------------------- for the rest of hpc.data

    @property
    def repeatable(self) -> bool:
        """Whether it gives the same when it is evaluated again, or on other pieces of the rows."""
        return self.own_repeatable and all(child.repeatable for child in self.children())

    def columns(self) -> frozenset[str]:
        """The columns that it reads."""
        return frozenset().union(*(child.columns() for child in self.children()))

    def rename(self, mapping: Mapping[str, str]) -> Node:
        """The same expression of columns under other names: from the names that it has to the new ones."""
        return self.with_children(tuple(child.rename(mapping) for child in self.children()))

    def substitute(self, columns: Mapping[str, Node]) -> Node:
        """The same expression with other expressions in place of columns."""
        return self.with_children(tuple(child.substitute(columns) for child in self.children()))

    def evaluate(self, table: pa.Table, run: Run | None = None) -> Column:
        """The column that it gives for the rows of a table. Raises KeyError for a column that there is not."""
        run = run or Run()
        return as_column(self.evaluated(table, run), table.num_rows, self)

    def evaluated(self, table: pa.Table, run: Run) -> Any:
        """The value for this table, evaluated once."""
        known = run.values.get(id(self))
        if known is not None and known[0] is self:
            return known[1]
        value = self.value(table, run)
        if self.children():
            run.values[id(self)] = (self, value)
        return value

    def structurally_equals(self, other: Any) -> bool:
        """Whether the other is the same tree."""
        if type(other) is not type(self) or self.key() != other.key():
            return False
        mine, others = self.children(), other.children()
        return len(mine) == len(others) and all(one.structurally_equals(two) for one, two in zip(mine, others))

    def is_idempotent(self) -> bool:
        """Whether it may be evaluated again, or elsewhere: Ray's word for `repeatable`."""
        return self.repeatable

    def walk(self) -> list[Node]:
        """All nodes of the tree, the top first."""
        return [self, *(node for child in self.children() for node in child.walk())]

    def __hash__(self) -> int:
        key = self.key()
        try:
            own = hash(key)
        except TypeError:
            own = hash(repr(key))
        return hash((type(self), own, *map(hash, self.children())))

    def __bool__(self) -> bool:
        raise TypeError("an expression is neither true nor false: use & | ~ in place of and, or, not")

    def __repr__(self) -> str:
        return "\n".join(self._lines(""))

    def _lines(self, prefix: str, last: bool = True) -> list[str]:
        lines, inner = [self.label()], prefix + ("    " if last else "│   ")
        children = self.children()
        for place, (name, child) in enumerate(zip(self.labels(), children)):
            is_last = place == len(children) - 1
            first, *rest = child._lines(inner, is_last)
            lines += [f"{inner}{'└── ' if is_last else '├── '}{name + ': ' if name else ''}{first}", *rest]
        return lines


def as_column(value: Any, rows: int, node: Node) -> Column:
    """The column of what an evaluation gave: one value stands for all rows. Raises ValueError for a wrong length."""
    if isinstance(value, COLUMNS):
        if len(value) != rows:
            raise ValueError(f"{node.label()} gave {len(value)} values for {rows} rows")
        return value
    if isinstance(value, pa.Scalar):
        return pa.repeat(value, rows)
    if isinstance(value, np.generic):
        value = value.item() if value.dtype.kind not in "mM" else value
    one = build.column([value])
    return one.take(pa.array(np.zeros(rows, dtype=np.int64))) if rows else one.slice(0, 0)

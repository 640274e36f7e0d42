"""Rules of plans: a plan gives the same rows after them, and reads less."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpc.data.aggregate import Count, Sum
from hpc.data.expr.nodes import Expr
from hpc.data.expressions import col
from hpc.data.io.source import Source, SourceTask
from hpc.data.plan.interpret import interpret
from hpc.data.plan.nodes import (
    Apply,
    Drop,
    Exchanged,
    Filter,
    Limit,
    Node,
    Read,
    Rename,
    Select,
    Union,
    WithColumns,
    Zip,
    walk,
)
from hpc.data.plan.optimize import optimized
from hpc.data.shuffle.aggregate import Aggregated
from hpc.data.shuffle.join import TYPES, Join, Joining
from hpc.data.shuffle.order import SortKey
from hpc.data.shuffle.sort import MOST_TOP, Sort, TopRows
from hpc.data.transform.base import TaskContext
from hpc.data.transform.columns import FilterExpr

NAMES = ("a", "b", "c")
KINDS = ("filter", "select", "drop", "rename", "with", "limit", "union", "apply", "zip", "sort", "sort")


class RowsTask(SourceTask):
    def __init__(self, source: Rows, first: int, until: int) -> None:
        self.source, self.first, self.until = source, first, until

    def read(self, task: TaskContext) -> Iterator[pa.Table]:
        numbers = range(self.first, self.until)
        table = pa.table({"a": numbers, "b": [n % 5 for n in numbers], "c": [str(n) for n in numbers]})
        for expr in self.source.filters:
            (table,) = FilterExpr(expr)(iter([table]), task)
        table = table.select(list(self.source.names))
        yield table if self.source.most is None else table.slice(0, self.source.most)


@dataclass(frozen=True)
class Rows(Source):
    name = "Rows"

    count_: int
    names: tuple[str, ...] = NAMES
    filters: tuple[Expr, ...] = ()
    most: int | None = None
    can: bool = True

    def schema(self) -> pa.Schema:
        return pa.schema([(name, pa.string() if name == "c" else pa.int64()) for name in self.names])

    def tasks(self, parallelism: int) -> Iterator[SourceTask]:
        for part in range(parallelism):
            yield RowsTask(self, part * self.count_ // parallelism, (part + 1) * self.count_ // parallelism)

    def with_columns(self, names: list[str]) -> Source | None:
        return replace(self, names=tuple(names)) if self.can and self.most is None else None

    def with_filter(self, expr: Expr) -> Source | None:
        return replace(self, filters=(*self.filters, expr)) if self.can and self.most is None else None

    def with_limit(self, rows: int) -> Source | None:
        return replace(self, most=rows) if self.can else None


class Twice:
    name, keeps_rows = "twice", False

    def __call__(self, tables: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table]:
        for table in tables:
            yield pa.concat_tables([table, table])


class Same(Twice):
    name, keeps_rows = "same", True

    def __call__(self, tables: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table]:
        yield from tables


@st.composite
def plans(draw: st.DrawFn) -> Node:
    """A plan, and columns that are numbers are known by their names: all but those that begin as c does."""
    node: Node = Read(Rows(draw(st.sampled_from([0, 1, 30])), can=draw(st.booleans())))
    names = list(NAMES)
    made = 0
    for _ in range(draw(st.integers(0, 7))):
        numbers = [name for name in names if not name.startswith("c")]
        kind = draw(st.sampled_from(KINDS))
        if kind == "filter" and numbers:
            name = draw(st.sampled_from(numbers))
            node = Filter(node, col(name) % 3 == draw(st.integers(0, 2)))
        elif kind == "select":
            names = draw(st.permutations(names))[: draw(st.integers(1, len(names)))]
            node = Select(node, tuple(names))
        elif kind == "drop" and len(names) > 1:
            gone = draw(st.sampled_from(names))
            names = [name for name in names if name != gone]
            node = Drop(node, (gone,))
        elif kind == "rename":
            old, made = draw(st.sampled_from(names)), made + 1
            new = f"{old[0]}{made}"
            names = [new if name == old else name for name in names]
            node = Rename(node, ((old, new),))
        elif kind == "with" and numbers:
            made += 1
            new = draw(st.sampled_from([f"n{made}", draw(st.sampled_from(numbers))]))
            node = WithColumns(node, ((new, col(draw(st.sampled_from(numbers))) + 1),))
            names = names if new in names else [*names, new]
        elif kind == "limit":
            node = Limit(node, draw(st.integers(0, 40)))
        elif kind == "union":
            node = Union((node, node))
        elif kind == "apply":
            node = Apply(node, draw(st.sampled_from([Twice(), Same()])))
        elif kind == "zip":
            node = Zip((node, node))
            names = [*names, *(f"{name}_1" for name in names)] if not any("_" in name for name in names) else names
        elif kind == "sort":
            keys = draw(st.permutations(names))[: draw(st.integers(1, 2))]
            node = Exchanged((node,), Sort(tuple(SortKey(key, draw(st.booleans())) for key in keys)))
    return exchanged(draw, node, [name for name in names if not name.startswith("c")])


def exchanged(draw: st.DrawFn, node: Node, numbers: list[str]) -> Node:
    """The plan; or groups of its rows, or a join of them with others, whose rows come in any order."""
    kind = draw(st.sampled_from(["", "", "group", "join"]))
    if kind == "group" and numbers:
        key, value = draw(st.sampled_from(numbers)), draw(st.sampled_from(numbers))
        return Exchanged((node,), Aggregated((key,), (Sum(value), Count())))
    if kind == "join" and numbers:
        on = (draw(st.sampled_from(numbers)),)
        how = Joining(draw(st.sampled_from(TYPES)), on, ("a",), "_l", "_r")
        return Exchanged((node, Read(Rows(draw(st.sampled_from([0, 20]))))), Join(how, 3))
    return node


def rows(plan: Node) -> list[dict[str, object]]:
    return [row for table in interpret(plan) for row in table.to_pylist()]


@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
@given(plans())
def test_plans_give_the_same_rows_after_the_rules(plan: Node) -> None:
    try:
        expected = rows(plan)
    except (KeyError, ValueError):
        return  # a zip of nothing, or names that are there twice
    found = rows(optimized(plan))
    ordered = not isinstance(plan, Exchanged) or plan.exchange.ordered
    assert found == expected if ordered else sorted(found, key=repr) == sorted(expected, key=repr)


def source_of(plan: Node) -> Rows:
    (read,) = [node for node in walk(optimized(plan)) if isinstance(node, Read)]
    assert isinstance(read.source, Rows)
    return read.source


def test_columns_filters_and_limits_reach_the_source() -> None:
    read = Read(Rows(30))
    assert source_of(Select(read, ("b",))).names == ("b",)
    assert len(source_of(Filter(Select(read, ("b",)), col("b") == 1)).filters) == 1
    assert source_of(Limit(Apply(read, Same()), 3)).most == 3
    assert source_of(Limit(Apply(read, Twice()), 3)).most is None
    plan = Select(WithColumns(read, (("d", col("a") + 1), ("e", col("c")))), ("d",))
    assert source_of(plan).names == ("a",)
    renamed = Filter(Rename(read, (("a", "x"),)), col("x") == 1)
    assert source_of(renamed).filters[0].columns() == {"a"}


def test_the_first_rows_of_a_sort_are_looked_for_where_rows_are_read_and_its_filter_too() -> None:
    read = Read(Rows(30, can=False))
    first = Limit(Select(Exchanged((read,), Sort((SortKey("b"), SortKey("a", True)))), ("a",)), 4)
    assert any(isinstance(one, Apply) and isinstance(one.transform, TopRows) for one in walk(optimized(first)))
    assert [row["a"] for row in rows(optimized(first))] == [25, 20, 15, 10]
    below = optimized(Filter(Exchanged((Read(Rows(30)),), Sort((SortKey("b"),))), col("a") < 3))
    assert isinstance(below, Exchanged) and len(source_of(below).filters) == 1
    whole = optimized(Limit(Exchanged((read,), Sort((SortKey("b"),))), MOST_TOP + 1))
    assert not any(isinstance(one, Apply) for one in walk(whole)), "so many rows are sorted as all are"


def test_a_limit_of_a_limit_is_one() -> None:
    plan = optimized(Limit(Limit(Read(Rows(30, can=False)), 5), 3))
    assert [node.rows for node in walk(plan) if isinstance(node, Limit)] == [3]

"""Iceberg tables as a source: tasks read data files of one snapshot, with their deletes, by pyiceberg."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from typing import Any

import pyarrow as pa

from hpc.data.expr import nodes
from hpc.data.expr.kernels import Operation
from hpc.data.io.narrow import Narrow
from hpc.data.io.parquet_file import check_objects
from hpc.data.io.source import Estimate, Range, Source, SourceTask
from hpc.data.packages import needs
from hpc.data.transform.base import TaskContext

#: The bytes of tables that come from a byte of data files, about.
FACTOR = 5
COMPARED = {
    Operation.EQ: "EqualTo",
    Operation.LT: "LessThan",
    Operation.LE: "LessThanOrEqual",
    Operation.GT: "GreaterThan",
    Operation.GE: "GreaterThanOrEqual",
}
TURNED = {
    Operation.EQ: Operation.EQ,
    Operation.LT: Operation.GT,
    Operation.LE: Operation.GE,
    Operation.GT: Operation.LT,
    Operation.GE: Operation.LE,
}


def load(name: str, catalog_kwargs: dict[str, Any] | None, what: str) -> Any:
    """A table by its name. ``catalog_kwargs`` go to `pyiceberg.catalog.load_catalog`; "name" is that of the catalog."""
    catalog = needs("pyiceberg.catalog", what, "pyiceberg")
    given = dict(catalog_kwargs or {})
    return catalog.load_catalog(given.pop("name", "default"), **given).load_table(name)


class IcebergSource(Source):
    """The rows of one snapshot of an Iceberg table.

    Filters of a plan leave out files; rows are filtered again here, so that they mean what they mean elsewhere.
    """

    name = "Iceberg"

    def __init__(
        self, table: Any, row_filter: Any, fields: tuple[str, ...] | None, snapshot_id: int | None, scan: dict[str, Any]
    ) -> None:
        self.table = table
        current = table.current_snapshot()
        # Later commits must not change what the tasks of one dataset see.
        self.snapshot = snapshot_id or (current.snapshot_id if current is not None else None)
        self.row_filter = row_filter
        self.scan_args = scan
        self.fields = fields
        self.narrow = Narrow()
        self.pushed: tuple[Any, ...] = ()

    def scan(self, fields: tuple[str, ...] | None = None) -> Any:
        expressions = needs("pyiceberg.expressions", "read_iceberg", "pyiceberg")
        parser = needs("pyiceberg.expressions.parser", "read_iceberg", "pyiceberg")
        where = expressions.AlwaysTrue() if self.row_filter is None else self.row_filter
        if isinstance(where, str):
            where = parser.parse(where)
        for one in self.pushed:
            where = expressions.And(where, one)
        return self.table.scan(
            row_filter=where, selected_fields=fields or self.fields or ("*",), snapshot_id=self.snapshot,
            **self.scan_args,
        )  # fmt: skip

    def read_fields(self) -> tuple[str, ...] | None:
        """The columns that must be read; at least one, as the rows of none cannot be counted."""
        wanted = self.narrow.wanted
        if wanted is None:
            return None
        return tuple(wanted) or (self.whole().names[0],)

    def planned(self) -> list[Any]:
        """The data files, in an order that is always the same."""
        if "plan" not in self.__dict__:
            found = list(self.scan(self.read_fields()).plan_files())
            self.__dict__["plan"] = sorted(found, key=lambda one: one.file.file_path)
        return self.__dict__["plan"]

    def whole(self) -> pa.Schema:
        arrow = needs("pyiceberg.io.pyarrow", "read_iceberg", "pyiceberg")
        return arrow.schema_to_pyarrow(self.scan().projection(), include_field_ids=False)

    def schema(self) -> pa.Schema:
        return self.narrow.schema(self.whole())

    def estimate(self) -> Estimate:
        plan = self.planned()
        return Estimate(self.count(), FACTOR * sum(one.file.file_size_in_bytes for one in plan), len(plan))

    def count(self) -> int | None:
        if self.narrow.filters or self.narrow.limit is not None:
            return None
        expressions = needs("pyiceberg.expressions", "read_iceberg", "pyiceberg")
        plan = self.planned()
        if any(one.delete_files or not isinstance(one.residual, expressions.AlwaysTrue) for one in plan):
            return None
        return sum(one.file.record_count for one in plan)

    def files(self) -> list[str]:
        return [one.file.file_path for one in self.planned()]

    def tasks(self, parallelism: int) -> Iterator[SourceTask]:
        plan = self.planned()
        count = min(parallelism if parallelism > 0 else len(plan), len(plan))
        total = sum(one.file.file_size_in_bytes for one in plan) or 1
        groups: list[list[Any]] = [[] for _ in range(count)]
        before = 0
        for one in plan:
            groups[min(count - 1, before * count // total)].append(one)
            before += one.file.file_size_in_bytes
        scan = self.scan(self.read_fields())
        # The tasks of a table need its schemas and properties, and not its history.
        history: dict[str, Any] = {
            "snapshots": [],
            "snapshot_log": [],
            "metadata_log": [],
            "refs": {},
            "current_snapshot_id": None,
        }
        args = {
            "table_metadata": self.table.metadata.model_copy(update=history),
            "io": self.table.io,
            "projected_schema": scan.projection(),
            "row_filter": scan.row_filter,
            "case_sensitive": self.scan_args.get("case_sensitive", True),
        }
        for group in groups:
            if group:
                yield IcebergTask(args, self.narrow, group)

    # -------------------------------------------------------------- what a plan moves here

    def narrowed(self, narrow: Narrow, pushed: tuple[Any, ...] = ()) -> IcebergSource:
        other = copy(self)
        other.__dict__.pop("plan", None)
        other.narrow, other.pushed = narrow, (*self.pushed, *pushed)
        return other

    def with_columns(self, names: list[str]) -> Source | None:
        if missing := [name for name in names if name not in self.schema().names]:
            raise ValueError(f"there are no columns {missing} in the Iceberg table; there are {self.schema().names}")
        return self.narrowed(self.narrow.with_columns(names))

    def with_limit(self, rows: int) -> Source | None:
        return self.narrowed(self.narrow.with_limit(rows))

    def with_filter(self, expr: Any) -> Source | None:
        if not self.narrow.filterable(expr):
            return None
        pushed = to_iceberg(expr, self.whole())
        return None if pushed is None else self.narrowed(self.narrow.with_filter(expr), (pushed,))


class IcebergTask(SourceTask):
    """Some data files of a snapshot."""

    def __init__(self, args: dict[str, Any], narrow: Narrow, plan: list[Any]) -> None:
        self.args, self.narrow, self.plan = args, narrow, plan
        self.files = tuple(one.file.file_path for one in plan)
        self.nbytes = FACTOR * sum(one.file.file_size_in_bytes for one in plan)
        self.key = "\n".join(self.files)

    @property
    def ranges(self) -> tuple[Range, ...]:
        return tuple((path, 0, None) for path in self.files)

    def read(self, task: TaskContext) -> Iterator[pa.Table]:
        task.ranges = self.ranges
        return self.narrow.limited(self.tables(task))

    def tables(self, task: TaskContext) -> Iterator[pa.Table]:
        arrow = needs("pyiceberg.io.pyarrow", "read_iceberg", "pyiceberg")
        schema = arrow.schema_to_pyarrow(self.args["projected_schema"], include_field_ids=False)
        scanner = arrow.ArrowScan(**self.args)
        for one in self.plan:
            task.source = one.file.file_path
            for batch in scanner.to_record_batches([one]):
                check_objects(batch.schema, None, task.source)
                yield self.narrow.apply(pa.Table.from_batches([batch]).cast(schema))


def to_iceberg(expr: Any, schema: pa.Schema, exact: bool = False) -> Any:
    """What pyiceberg leaves out files by: true for all rows for which the expression is true. None: it knows none.

    ``exact``: it is true for no other rows, either.
    """
    expressions = needs("pyiceberg.expressions", "read_iceberg", "pyiceberg")
    if isinstance(expr, nodes.AliasExpr):
        return to_iceberg(expr.expr, schema, exact)
    if isinstance(expr, nodes.UnaryExpr) and isinstance(expr.operand, nodes.ColumnExpr):
        kind = {Operation.IS_NULL: expressions.IsNull, Operation.IS_NOT_NULL: expressions.NotNull}.get(expr.op)
        return kind(expr.operand.name) if kind is not None and expr.operand.name in schema.names else None
    if not isinstance(expr, nodes.BinaryExpr):
        return None
    left, right, op = expr.left, expr.right, expr.op
    if op in (Operation.AND, Operation.OR):
        sides = [
            side for side in (to_iceberg(left, schema, exact), to_iceberg(right, schema, exact)) if side is not None
        ]
        if len(sides) == 2:
            return (expressions.And if op is Operation.AND else expressions.Or)(*sides)
        return sides[0] if sides and op is Operation.AND and not exact else None
    if isinstance(left, nodes.LiteralExpr) and op in TURNED:
        left, right, op = right, left, TURNED[op]
    if (
        not (isinstance(left, nodes.ColumnExpr) and isinstance(right, nodes.LiteralExpr))
        or left.name not in schema.names
    ):
        return None
    kind = schema.field(left.name).type
    if op is Operation.IN and isinstance(right.literal, list) and all(same(kind, one) for one in right.literal):
        return expressions.In(left.name, right.literal)
    if op in COMPARED and same(kind, right.literal):
        return getattr(expressions, COMPARED[op])(left.name, right.literal)
    return None


def same(kind: pa.DataType, value: Any) -> bool:
    """Whether a value is compared with a column of the type by pyiceberg as by Arrow: it is of that very type."""
    if isinstance(value, bool):
        return pa.types.is_boolean(kind)
    if isinstance(value, int):
        return pa.types.is_integer(kind)
    if isinstance(value, float):
        return pa.types.is_float64(kind) and value == value
    return isinstance(value, str) and (pa.types.is_string(kind) or pa.types.is_large_string(kind))

"""What a plan has moved into a source: its columns, a filter, a number of rows. Applied to each table that was read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from hpc.data.block.passing import passing


@dataclass(frozen=True)
class Narrow:
    """``columns`` in this order (None: all), rows for which all ``filters`` hold, and ``limit`` rows of each task."""

    columns: tuple[str, ...] | None = None
    filters: tuple[Any, ...] = ()
    limit: int | None = None

    def with_columns(self, names: list[str]) -> Narrow:
        """These columns of the ones there are. Raises KeyError for one that was left out before."""
        if self.columns is not None and (gone := [name for name in names if name not in self.columns]):
            raise KeyError(f"there are no columns {gone}: only {list(self.columns)} are read")
        return replace(self, columns=tuple(names))

    def with_filter(self, expr: Any) -> Narrow:
        """These rows only. What a limit has cut before cannot be filtered after: the caller asks ``filterable``."""
        return replace(self, filters=(*self.filters, expr))

    def with_limit(self, rows: int) -> Narrow:
        return replace(self, limit=rows if self.limit is None else min(rows, self.limit))

    def filterable(self, expr: Any) -> bool:
        """Whether a filter can go below what is there: it sees all its columns, and no limit comes first."""
        return self.limit is None and (self.columns is None or expr.columns() <= set(self.columns))

    @property
    def wanted(self) -> list[str] | None:
        """The columns that must be read: those that come out and those that filters look at. None: all."""
        if self.columns is None:
            return None
        seen = sorted({name for expr in self.filters for name in expr.columns()} - set(self.columns))
        return [*self.columns, *seen]

    def apply(self, table: pa.Table) -> pa.Table:
        """A table's rows and columns that come out, but for the limit. Raises KeyError for a missing column."""
        for number, expr in enumerate(self.filters):
            mask = expr.evaluate(table)
            if self.columns:  # what neither comes out nor is looked at again is not copied
                later = {name for one in self.filters[number + 1 :] for name in one.columns()}
                table = table.select([*self.columns, *sorted(later - set(self.columns))])
            table = passing(table, mask)
        if self.columns is not None and tuple(table.column_names) != self.columns:
            table = table.select(list(self.columns))
        return table

    def schema(self, schema: pa.Schema) -> pa.Schema:
        """The schema of what comes out."""
        return schema if self.columns is None else pa.schema([schema.field(name) for name in self.columns])

    def limited(self, tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        """The first rows of what one task reads."""
        if self.limit is None:
            yield from tables
            return
        left = self.limit
        for table in tables if left else ():
            yield table.slice(0, left)
            left -= min(left, table.num_rows)
            if not left:
                return

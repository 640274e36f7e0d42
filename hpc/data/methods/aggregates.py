"""Methods that make values of many rows: groupby, aggregate, sum and the like, unique, summary."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hpc.data import aggregate as fns
from hpc.data.block import batch
from hpc.data.grouped import GroupedData
from hpc.data.methods.look import schema
from hpc.data.methods.shuffles import check_columns, check_partitions, names_of
from hpc.data.plan import nodes
from hpc.data.planned import Planned
from hpc.data.shuffle.aggregate import Aggregated
from hpc.data.summary import DatasetSummary, numbers_of_summary


def groupby(self: Planned, key: str | list[str] | None, num_partitions: int | None = None) -> GroupedData:
    """The rows in groups by one column or several; None: all are one group."""
    names = () if key is None else names_of("the key of groupby", key)
    check_partitions(num_partitions, "num_partitions")
    check_columns(self, names)
    return GroupedData(self, key, num_partitions=num_partitions)


def aggregate(self: Planned, *aggs: fns.AggregateFn) -> dict[str, Any] | None:
    """What aggregates of `hpc.data.aggregate` make of all rows, by their names. It runs. None without any block."""
    if not aggs:
        raise ValueError("aggregate needs an aggregate, as Sum('x')")
    for fn in aggs:
        if not isinstance(fn, fns.AggregateFn):
            raise TypeError(f"aggregate takes aggregates, as Sum('x'), and {fn!r} is none")
    tables = self.tables(nodes.Exchanged((self.plan,), Aggregated((), tuple(aggs))))
    rows = [row for table in tables for row in batch.rows(table)]
    return rows[0] if rows else None


def _of_columns(self: Planned, make: Callable[..., fns.AggregateFn], on: Any, **more: Any) -> Any:
    """One value for one column; a dict for several."""
    if on is None:
        found = schema(self)
        names = () if found is None else tuple(found.names)
    else:
        names = names_of("on", on)
    if not names:
        return None
    check_columns(self, names)
    values = aggregate(self, *(make(name, **more) for name in names))
    if values is None or len(values) > 1:
        return values
    return next(iter(values.values()))


def sum(self: Planned, on: str | list[str] | None = None, ignore_nulls: bool = True) -> Any:
    """The sum of a column, or a dict of the sums of several (None: all). It runs."""
    return _of_columns(self, fns.Sum, on, ignore_nulls=ignore_nulls)


def min(self: Planned, on: str | list[str] | None = None, ignore_nulls: bool = True) -> Any:
    """The least value of a column, or a dict for several (None: all). It runs."""
    return _of_columns(self, fns.Min, on, ignore_nulls=ignore_nulls)


def max(self: Planned, on: str | list[str] | None = None, ignore_nulls: bool = True) -> Any:
    """The largest value of a column, or a dict for several (None: all). It runs."""
    return _of_columns(self, fns.Max, on, ignore_nulls=ignore_nulls)


def mean(self: Planned, on: str | list[str] | None = None, ignore_nulls: bool = True) -> Any:
    """The mean of a column, or a dict for several (None: all). It runs."""
    return _of_columns(self, fns.Mean, on, ignore_nulls=ignore_nulls)


def std(self: Planned, on: str | list[str] | None = None, ddof: int = 1, ignore_nulls: bool = True) -> Any:
    """The standard deviation of a column, or a dict for several (None: all). It runs."""
    return _of_columns(self, fns.Std, on, ddof=ddof, ignore_nulls=ignore_nulls)


def unique(self: Planned, column: str, ignore_nulls: bool = False) -> list[Any]:
    """Each value of a column once, in the order of first appearance. It runs."""
    return _of_columns(self, fns.Unique, column, ignore_nulls=ignore_nulls) or []


def summary(
    self: Planned,
    columns: list[str] | None = None,
    override_dtype_agg_mapping: Mapping[Any, Callable[[str], list[fns.AggregateFnV2]]] | None = None,
) -> DatasetSummary:
    """Statistics of columns by their types: count, mean, least, largest and the like. It runs.

    ``override_dtype_agg_mapping``: other aggregates for columns of a `DataType`. Raises ValueError for a column that is
    not there. Medians and the most frequent values need the package datasketches."""
    found = schema(self)
    if found is None:
        raise ValueError("a dataset without columns has no summary")
    known = found.base_schema
    names = list(known.names) if columns is None else list(columns)
    lost = [name for name in names if name not in known.names]
    if lost:
        raise ValueError(f"there is no column {lost}: the columns are {list(known.names)}")
    wanted = numbers_of_summary(known, names, override_dtype_agg_mapping or {})
    values = aggregate(self, *(fn for some in wanted.values() for fn in some)) or {}
    return DatasetSummary(known, names, wanted, values)

"""The summary of a dataset: statistics of its columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from hpc.data.aggregate import (
    AggregateFn,
    ApproximateQuantile,
    ApproximateTopK,
    Count,
    Max,
    Mean,
    Min,
    MissingValuePercentage,
    Std,
    ZeroPercentage,
)  # fmt: skip


def aggregates_of_type(kind: pa.DataType, name: str) -> list[AggregateFn]:
    """What a summary tells of a column of a type."""
    every: list[AggregateFn] = [Count(name), MissingValuePercentage(name)]
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        more = [Mean(name), Min(name), Max(name), Std(name, ddof=0), ZeroPercentage(name, ignore_nulls=True)]
        return [*every, *more, ApproximateQuantile(name, [0.5])]
    if pa.types.is_boolean(kind):
        return [*every, Mean(name), Min(name), Max(name), Std(name, ddof=0)]
    if pa.types.is_temporal(kind) and not pa.types.is_interval(kind):
        return [*every, Min(name), Max(name)]
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind):
        return [*every, ApproximateTopK(name, 10)]
    return every


def numbers_of_summary(
    schema: pa.Schema, names: Sequence[str], override: Mapping[Any, Callable[[str], list[Any]]]
) -> dict[str, list[AggregateFn]]:
    """The aggregates of each column; `override` has others for a type."""
    found: dict[str, list[AggregateFn]] = {}
    for name in names:
        kind = schema.field(name).type
        own = next((make for of, make in override.items() if _is_type(of, kind)), None)
        found[name] = own(name) if own is not None else aggregates_of_type(kind, name)
    return found


def _is_type(of: Any, kind: pa.DataType) -> bool:
    if isinstance(of, pa.DataType):
        return bool(of == kind)
    as_arrow = getattr(of, "to_arrow_dtype", None)
    return as_arrow is not None and bool(as_arrow() == kind)


class DatasetSummary:
    """Statistics of columns. `dataset_schema`: of the dataset; `columns`: those that were looked at."""

    def __init__(
        self,
        dataset_schema: pa.Schema,
        columns: Sequence[str],
        wanted: Mapping[str, Sequence[AggregateFn]],
        values: Mapping[str, Any],
    ) -> None:
        self.dataset_schema = dataset_schema
        self.columns = list(columns)
        self._stats: dict[str, dict[str, Any]] = {}
        for column, fns in wanted.items():
            found = self._stats[column] = {}
            for fn in fns:
                value, name = values.get(fn.name), getattr(fn, "get_agg_name", lambda fn=fn: fn.name)()
                if isinstance(value, list):
                    found.update({f"{name}[{place}]": item for place, item in enumerate(value)})
                else:
                    found[name] = value

    def get_column_stats(self, column: str) -> Any:
        """A pandas DataFrame of the columns `statistic` and `value`. Raises ValueError for another column."""
        import pandas as pd

        if column not in self._stats:
            raise ValueError(f"the summary has no column {column!r}: it has {self.columns}")
        found = self._stats[column]
        names = sorted(found)
        return pd.DataFrame({"statistic": names, "value": [found[name] for name in names]})

    def to_pandas(self) -> Any:
        """A pandas DataFrame: a row for each statistic, a column for each column; null where there is none."""
        import pandas as pd

        names = sorted({name for found in self._stats.values() for name in found})
        columns = {column: [self._stats[column].get(name) for name in names] for column in self.columns}
        return pd.DataFrame({"statistic": names, **columns})

    def __repr__(self) -> str:
        return f"DatasetSummary({self._stats!r})"

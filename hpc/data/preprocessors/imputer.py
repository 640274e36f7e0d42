"""Imputer: values in the place of those that are missing."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hpc.data.aggregate import Mean, ValueCounter
from hpc.data.preprocessor import Preprocessor, aggregated, column_of, outputs, with_column

STRATEGIES = ("mean", "most_frequent", "constant")


class _MeanOfNumbers(Mean):
    """The mean of the values that are neither null nor NaN."""

    def _partial(self, table: pa.Table) -> Any:
        column = str(self.get_target_column())
        values = self._numbers(table)
        missing = pc.is_null(values, nan_is_null=True)
        kept = pc.if_else(missing, pa.scalar(None, values.type), values)
        return super()._partial(pa.table({column: kept}))


class SimpleImputer(Preprocessor):
    """Null and NaN become the mean of a column, its most frequent value, or a constant (``fill_value``)."""

    _shown = ("columns", "strategy", "fill_value", "output_columns")

    def __init__(
        self,
        columns: list[str],
        strategy: str = "mean",
        fill_value: Any = None,
        *,
        output_columns: list[str] | None = None,
    ) -> None:
        if strategy not in STRATEGIES:
            raise ValueError(f"strategy {strategy!r} is none of {', '.join(STRATEGIES)}")
        if strategy == "constant" and fill_value is None:
            raise ValueError("the strategy 'constant' needs a `fill_value`")
        self.columns = list(columns)
        self.strategy = strategy
        self.fill_value = fill_value
        self._is_fittable = strategy != "constant"
        self.output_columns = outputs(columns, output_columns)

    def _fit(self, ds: Any) -> None:
        if self.strategy == "mean":
            self.stats_ = aggregated(ds, *(_MeanOfNumbers(column) for column in self.columns))
            return
        found = aggregated(ds, *(ValueCounter(column, alias_name=column) for column in self.columns))
        self.stats_ = {}
        for column in self.columns:
            counts = found[column] or {"values": [], "counts": []}
            known = [pair for pair in zip(counts["values"], counts["counts"]) if pair[0] is not None]
            known = [(value, count) for value, count in known if value == value]
            best = max(known, key=lambda pair: pair[1], default=(None, 0))[0]
            self.stats_[f"most_frequent({column})"] = best

    def _value(self, column: str) -> Any:
        if self.strategy == "constant":
            return self.fill_value
        assert self.stats_ is not None
        return self.stats_[f"{self.strategy}({column})"]

    def _transform_arrow(self, table: pa.Table) -> pa.Table:
        for column, output in zip(self.columns, self.output_columns):
            values, fill = column_of(table, column), self._value(column)
            if fill is None:
                raise ValueError(f"column {column!r} had no values to be fitted to, so that nothing can be imputed")
            missing = pc.is_null(values, nan_is_null=True)
            if pa.types.is_null(values.type) or (isinstance(fill, float) and pa.types.is_integer(values.type)):
                values = values.cast(pa.scalar(fill).type)
            table = with_column(table, output, pc.if_else(missing, pa.scalar(fill, values.type), values))
        return table

"""Scalers: columns of numbers moved and stretched by what they are like in a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hpc.data.aggregate import AbsMax, ApproximateQuantile, Max, Mean, Min, Std
from hpc.data.preprocessor import Preprocessor, aggregated, column_of, outputs, with_column


class _Scaler(Preprocessor):
    """Each column: minus one number, by another."""

    _shown: tuple[str, ...] = ("columns", "output_columns")

    def __init__(self, columns: list[str], output_columns: list[str] | None = None) -> None:
        self.columns = list(columns)
        self.output_columns = outputs(columns, output_columns)

    def _moved(self, column: str) -> tuple[Any, Any]:
        """What is taken from the values, and what they are divided by; None where the column had no values."""
        raise NotImplementedError

    def _transform_arrow(self, table: pa.Table) -> pa.Table:
        for column, output in zip(self.columns, self.output_columns):
            minus, by = self._moved(column)
            values = pc.cast(column_of(table, column), pa.float64(), safe=False)
            minus, by = pa.scalar(minus, pa.float64()), pa.scalar(1.0 if by == 0 else by, pa.float64())
            table = with_column(table, output, pc.divide(pc.subtract(values, minus), by))
        return table

    def _stat(self, name: str, column: str) -> Any:
        assert self.stats_ is not None
        return self.stats_[f"{name}({column})"]


class StandardScaler(_Scaler):
    """Each column with mean 0 and standard deviation 1. A column of one value becomes 0."""

    def _fit(self, ds: Any) -> None:
        means = [Mean(column) for column in self.columns]
        self.stats_ = aggregated(ds, *means, *(Std(column, ddof=0) for column in self.columns))

    def _moved(self, column: str) -> tuple[Any, Any]:
        return self._stat("mean", column), self._stat("std", column)


class MinMaxScaler(_Scaler):
    """Each column from 0, its least value, to 1, its largest. A column of one value becomes 0."""

    def _fit(self, ds: Any) -> None:
        least = [Min(column) for column in self.columns]
        self.stats_ = aggregated(ds, *least, *(Max(column) for column in self.columns))

    def _moved(self, column: str) -> tuple[Any, Any]:
        least, largest = self._stat("min", column), self._stat("max", column)
        return least, None if least is None else largest - least


class MaxAbsScaler(_Scaler):
    """Each column divided by its largest absolute value; a column of zeros stays."""

    def _fit(self, ds: Any) -> None:
        self.stats_ = aggregated(ds, *(AbsMax(column) for column in self.columns))

    def _moved(self, column: str) -> tuple[Any, Any]:
        return 0.0, self._stat("abs_max", column)


class RobustScaler(_Scaler):
    """Each column: minus its median, by the distance of two quantiles. Needs the package datasketches.

    quantile_precision: as `ApproximateQuantile` has it."""

    _shown = ("columns", "quantile_range", "output_columns")

    def __init__(
        self,
        columns: list[str],
        quantile_range: tuple[float, float] = (0.25, 0.75),
        output_columns: list[str] | None = None,
        quantile_precision: int = 800,
    ) -> None:
        super().__init__(columns, output_columns)
        self.quantile_range = quantile_range
        self.quantile_precision = quantile_precision

    def _fit(self, ds: Any) -> None:
        low, high = self.quantile_range
        fns = [
            ApproximateQuantile(column, [low, 0.5, high], self.quantile_precision, alias_name=column)
            for column in self.columns
        ]
        found = aggregated(ds, *fns)
        self.stats_ = {}
        for column in self.columns:
            values: Sequence[Any] = found[column] or (None, None, None)
            for name, value in zip(("low_quantile", "median", "high_quantile"), values):
                self.stats_[f"{name}({column})"] = value

    def _moved(self, column: str) -> tuple[Any, Any]:
        low, high = self._stat("low_quantile", column), self._stat("high_quantile", column)
        return self._stat("median", column), None if low is None else high - low

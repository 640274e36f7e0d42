"""Discretizers: numbers become the number of the bin that they are in, as `pandas.cut` has it. They need pandas."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from hpc.data.aggregate import Max, Min
from hpc.data.preprocessor import Preprocessor, aggregated, column_of, outputs, with_column


class _Discretizer(Preprocessor):
    """Cuts columns at bounds."""

    _shown = ("columns", "bins", "right", "include_lowest", "duplicates", "dtypes", "output_columns")

    def __init__(
        self,
        columns: list[str],
        bins: Any,
        *,
        right: bool = True,
        include_lowest: bool = False,
        duplicates: str = "raise",
        dtypes: dict[str, Any] | None = None,
        output_columns: list[str] | None = None,
    ) -> None:
        self.columns = list(columns)
        self.bins = bins
        self.right = right
        self.include_lowest = include_lowest
        self.duplicates = duplicates
        self.dtypes = dtypes
        self.output_columns = outputs(columns, output_columns)

    def _bounds(self, column: str) -> Any:
        raise NotImplementedError

    def _transform_arrow(self, table: pa.Table) -> pa.Table:
        import pandas as pd

        for column, output in zip(self.columns, self.output_columns):
            dtype = (self.dtypes or {}).get(column)
            named = isinstance(dtype, pd.CategoricalDtype)
            bounds = self._bounds(column)
            found = pd.cut(
                column_of(table, column).to_pandas(),
                bounds,
                right=self.right,
                labels=list(dtype.categories) if named else False,  # type: ignore[union-attr]
                ordered=bool(dtype.ordered) if named else True,  # type: ignore[union-attr]
                include_lowest=self.include_lowest,
                duplicates=self.duplicates,
            )
            if isinstance(bounds, pd.IntervalIndex):  # pandas takes no labels for them, and gives the intervals
                codes = pd.Series(np.asarray(found.cat.codes))
                found = pd.Series(pd.Categorical.from_codes(codes, dtype=dtype)) if named else codes.where(codes >= 0)
            if not named and not isinstance(found.dtype, pd.CategoricalDtype):
                values: Any = pa.array(found, from_pandas=True).cast(pa.int64())
                if dtype is not None:
                    values = values.cast(pa.from_numpy_dtype(np.dtype(dtype)))
            else:
                values = pa.array(found, from_pandas=True)
            table = with_column(table, output, values)
        return table


class CustomKBinsDiscretizer(_Discretizer):
    """Bins with these bounds, or a `pandas.IntervalIndex`, for all columns or for each.

    right: a bin has its upper bound, and not its lower. Other values become null. dtypes: a `CategoricalDtype` gives
    the bins names; a type of integers is that of the numbers."""

    _is_fittable = False

    def __init__(self, columns: list[str], bins: Iterable[float] | dict[str, Any] | Any, **how: Any) -> None:
        super().__init__(columns, bins, **how)

    def _bounds(self, column: str) -> Any:
        return self.bins[column] if isinstance(self.bins, dict) else self.bins


class UniformKBinsDiscretizer(_Discretizer):
    """A number of bins of equal width from the least value of a column to the largest, for all columns or for each."""

    def __init__(self, columns: list[str], bins: int | dict[str, int], **how: Any) -> None:
        if isinstance(bins, dict):
            lost = set(columns) - set(bins)
            if lost:
                raise ValueError(f"bins has no number for the columns {sorted(lost)}")
        elif not isinstance(bins, int):
            raise TypeError(f"bins is a number of bins, or a dict of them by column, not {bins!r}")
        super().__init__(columns, bins, **how)

    def _fit(self, ds: Any) -> None:
        least = [Min(column) for column in self.columns]
        found = aggregated(ds, *least, *(Max(column) for column in self.columns))
        self.stats_ = {}
        for column in self.columns:
            bins = self.bins[column] if isinstance(self.bins, dict) else self.bins
            self.stats_[column] = self._spread(found[f"min({column})"], found[f"max({column})"], bins)

    def _spread(self, least: float, largest: float, bins: int) -> np.ndarray:
        """Bounds as pandas has them: the outer bin is wider by a thousandth, so that it has the value at its bound."""
        if least is None:
            raise ValueError("a column without values has no bins")
        if least == largest:
            wider = 0.001 * abs(least) if least else 0.001
            least, largest = least - wider, largest + wider
            return np.linspace(least, largest, bins + 1)
        bounds = np.linspace(least, largest, bins + 1)
        wider = (largest - least) * 0.001
        if self.right:
            bounds[0] -= wider
        else:
            bounds[-1] += wider
        return bounds

    def _bounds(self, column: str) -> Any:
        assert self.stats_ is not None
        return self.stats_[column]

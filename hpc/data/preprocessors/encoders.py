"""Encoders: categories become numbers, or vectors of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hpc.data.aggregate import Unique, ValueCounter
from hpc.data.block import tensor
from hpc.data.block.codes import whole
from hpc.data.block.nanoseconds import python_values
from hpc.data.preprocessor import Preprocessor, aggregated, column_of, outputs, with_column


def is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def numbered(values: list[Any]) -> dict[Any, int]:
    """A number for each value, in their order. Raises ValueError for null: it is no category."""
    plain = [tuple(value) if isinstance(value, list) else value for value in values]
    if any(value is None or value != value for value in plain):
        raise ValueError("a column with null values cannot be fitted: impute them first, as SimpleImputer does")
    return {value: number for number, value in enumerate(sorted(plain))}


def number_of(column: pa.ChunkedArray, numbers: Mapping[Any, int]) -> pa.Array:
    """The number of each value, int64; null for a value that has none."""
    array = whole(column)
    if is_list(array.type):
        found = [numbers.get(None if value is None else tuple(value)) for value in python_values(array)]
        return pa.array(found, pa.int64())
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if not numbers or pa.types.is_null(array.type):
        return pa.nulls(len(array), pa.int64())
    places = pc.index_in(array, value_set=pa.array(list(numbers)).cast(array.type), skip_nulls=True)
    return pa.array(list(numbers.values()), pa.int64()).take(places)


def counts_of(column: pa.ChunkedArray, numbers: Mapping[Any, int], kind: Any) -> pa.Array:
    """For each row (a value, or a list of them) a vector of how often each category is in it."""
    array = whole(column)
    if is_list(array.type):
        rows = np.repeat(np.arange(len(array)), np.asarray(pc.fill_null(pc.list_value_length(array), 0)))
        items = array.flatten()
    else:
        rows, items = np.arange(len(array)), array
    places = number_of(pa.chunked_array([items]), numbers)
    known = np.asarray(places.is_valid())
    flat = rows[known] * len(numbers) + np.asarray(places.drop_null())
    counts = np.bincount(flat, minlength=len(array) * len(numbers)).astype(kind)
    return tensor.from_numpy(counts.reshape(len(array), len(numbers)))


class _Encoder(Preprocessor):
    """Numbers the different values of each column."""

    columns: list[str]
    output_columns: list[str]

    def numbers(self, column: str) -> dict[Any, int]:
        """The number of each category of a column."""
        assert self.stats_ is not None
        found: dict[Any, int] = self.stats_[f"unique_values({column})"]
        return found

    def _number(self, ds: Any, encode_lists: bool, most: Mapping[str, int]) -> None:
        fns: list[Any] = []
        for column in self.columns:
            if column in most:
                fns.append(ValueCounter(column, alias_name=column))
            else:
                fns.append(Unique(column, alias_name=column, encode_lists=encode_lists))
        found = aggregated(ds, *fns)
        self.stats_ = {}
        for column in self.columns:
            values = found[column] or []
            if column in most:
                values = _most_frequent(values, most[column])
            self.stats_[f"unique_values({column})"] = numbered(values)


def _most_frequent(counts: Any, most: int) -> list[Any]:
    if not counts:
        return []
    pairs = sorted(zip(counts["values"], counts["counts"]), key=lambda pair: -pair[1])
    return [value for value, _ in pairs[:most]]


class OrdinalEncoder(_Encoder):
    """Each category becomes its number in the sorted order of all. An unknown one becomes null.

    encode_lists: each item of a list becomes its number; otherwise a list is a category."""

    _shown = ("columns", "encode_lists", "output_columns")

    def __init__(
        self, columns: list[str], *, encode_lists: bool = True, output_columns: list[str] | None = None
    ) -> None:
        self.columns = list(columns)
        self.encode_lists = encode_lists
        self.output_columns = outputs(columns, output_columns)

    def _fit(self, ds: Any) -> None:
        self._number(ds, self.encode_lists, {})

    def _transform_arrow(self, table: pa.Table) -> pa.Table:
        for column, output in zip(self.columns, self.output_columns):
            values = whole(column_of(table, column))
            if is_list(values.type) and self.encode_lists:
                sizes = np.asarray(pc.fill_null(pc.list_value_length(values), 0))
                items = number_of(pa.chunked_array([values.flatten()]), self.numbers(column))
                offsets = pa.array(np.append(0, np.cumsum(sizes)).astype(np.int32))
                found = pa.ListArray.from_arrays(offsets, items)
            else:
                found = number_of(pa.chunked_array([values]), self.numbers(column))
            table = with_column(table, output, found)
        return table


class OneHotEncoder(_Encoder):
    """Each category becomes a vector (uint8) with 1 at its number. An unknown one becomes zeros.

    max_categories: for some columns, only so many of the most frequent categories."""

    _shown = ("columns", "max_categories", "output_columns")
    _dtype: Any = np.uint8

    def __init__(
        self,
        columns: list[str],
        *,
        max_categories: dict[str, int] | None = None,
        output_columns: list[str] | None = None,
    ) -> None:
        self.columns = list(columns)
        self.max_categories = max_categories or {}
        self.output_columns = outputs(columns, output_columns)

    def _fit(self, ds: Any) -> None:
        self._number(ds, False, self.max_categories)

    def _transform_arrow(self, table: pa.Table) -> pa.Table:
        for column, output in zip(self.columns, self.output_columns):
            table = with_column(table, output, counts_of(column_of(table, column), self.numbers(column), self._dtype))
        return table


class MultiHotEncoder(OneHotEncoder):
    """Each list of categories becomes a vector (int64) of how often each is in it. Unknown ones do not count."""

    _dtype = np.int64

    def _fit(self, ds: Any) -> None:
        self._number(ds, True, {})
        assert self.stats_ is not None
        most = {column: self.max_categories[column] for column in self.columns if column in self.max_categories}
        for column, count in most.items():
            # Of lists the items are counted, which only the lists' own counts tell.
            counted = aggregated(ds, ValueCounter(column, alias_name=column))[column]
            often: dict[Any, int] = {}
            for value, number in zip(counted["values"], counted["counts"]):
                for item in value or ():
                    often[item] = often.get(item, 0) + number
            kept = sorted(often, key=lambda item: -often[item])[:count]
            self.stats_[f"unique_values({column})"] = numbered(kept)


class LabelEncoder(_Encoder):
    """Each label becomes its number in the sorted order of all. An unknown one becomes null."""

    _shown = ("label_column", "output_column")

    def __init__(self, label_column: str, *, output_column: str | None = None) -> None:
        self.label_column = label_column
        self.output_column = output_column or label_column
        self.columns, self.output_columns = [label_column], [self.output_column]

    def _fit(self, ds: Any) -> None:
        self._number(ds, False, {})

    def _transform_arrow(self, table: pa.Table) -> pa.Table:
        numbers = self.numbers(self.label_column)
        return with_column(table, self.output_column, number_of(column_of(table, self.label_column), numbers))

    def inverse_transform(self, ds: Any) -> Any:
        """The dataset with labels for their numbers. Raises PreprocessorNotFittedException before `fit`."""
        self._check_fitted("inverse_transform")
        return ds.map_batches(self._labels, batch_format="pyarrow")

    def inverse_transform_batch(self, table: pa.Table) -> pa.Table:
        """A table with labels for their numbers."""
        self._check_fitted("inverse_transform_batch")
        return self._labels(table)

    def _labels(self, table: pa.Table) -> pa.Table:
        labels = pa.array(list(self.numbers(self.label_column)))
        numbers = whole(column_of(table, self.output_column)).cast(pa.int64())
        return with_column(table, self.label_column, labels.take(numbers))


class Categorizer(Preprocessor):
    """Each column of the type `CategoricalDtype` of pandas: an Arrow dictionary of its sorted values.

    dtypes: the type of some columns, which then need no fit. An unknown value becomes null. Needs pandas."""

    _shown = ("columns", "dtypes", "output_columns")

    def __init__(
        self, columns: list[str], dtypes: dict[str, Any] | None = None, output_columns: list[str] | None = None
    ) -> None:
        self.columns = list(columns)
        self.dtypes = dtypes or {}
        self.output_columns = outputs(columns, output_columns)

    def _fit(self, ds: Any) -> None:
        import pandas as pd

        wanted = [column for column in self.columns if column not in self.dtypes]
        found = aggregated(ds, *(Unique(column, alias_name=column, ignore_nulls=True) for column in wanted))
        own = {column: pd.CategoricalDtype(sorted(found[column] or [])) for column in wanted}
        self.stats_ = {**own, **self.dtypes}

    def _transform_arrow(self, table: pa.Table) -> pa.Table:
        assert self.stats_ is not None
        for column, output in zip(self.columns, self.output_columns):
            values, dtype = whole(column_of(table, column)), self.stats_[column]
            categories = pa.array(list(dtype.categories), from_pandas=True)
            indices = pc.index_in(values.cast(categories.type), value_set=categories, skip_nulls=True)
            found = pa.DictionaryArray.from_arrays(indices, categories, ordered=bool(dtype.ordered))
            table = with_column(table, output, found)
        return table

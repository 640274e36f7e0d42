"""Columns of numbers together: a vector of them, their norm, powers, and hashes of their names."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hpc.data.block import batch, tensor
from hpc.data.preprocessor import Preprocessor, column_of, outputs, with_column

NORMS = ("l1", "l2", "max")
METHODS = ("yeo-johnson", "box-cox")


def bucket(value: object, buckets: int) -> int:
    """A number below `buckets` by the text of a value, alike everywhere."""
    return int.from_bytes(hashlib.sha256(str(value).encode()).digest(), "big") % buckets


def numbers_of(table: pa.Table, name: str) -> np.ndarray:
    """A column of numbers as float64; NaN for null."""
    return np.asarray(pc.fill_null(pc.cast(column_of(table, name), pa.float64(), safe=False), float("nan")))


class Concatenator(Preprocessor):
    """Columns of numbers become one column of vectors behind all; they are no columns of their own any more.

    flatten: columns of vectors and lists give all of their numbers. raise_if_missing: without effect, since a missing
    column is an error in any case. dtype: of the vectors."""

    _is_fittable = False

    def __init__(
        self,
        columns: list[str],
        output_column_name: str = "concat_out",
        dtype: Any = None,
        raise_if_missing: bool = False,
        flatten: bool = False,
    ) -> None:
        self.columns = list(columns)
        self.output_column_name = output_column_name
        self.dtype = dtype
        self.raise_if_missing = raise_if_missing
        self.flatten = flatten
        self.output_columns = [output_column_name]

    def __repr__(self) -> str:
        usual = {"output_column_name": "concat_out", "dtype": None, "raise_if_missing": False, "flatten": False}
        said = {name: getattr(self, name) for name in ("output_column_name", "columns", *list(usual)[1:])}
        shown = ", ".join(
            f"{name}={value if name == 'output_column_name' else repr(value)}"
            for name, value in said.items()
            if name == "columns" or value != usual[name]
        )
        return f"Concatenator({shown})"

    def _transform_arrow(self, table: pa.Table) -> pa.Table:
        parts = []
        for name in self.columns:
            cells = batch.column_to_numpy(column_of(table, name))
            if cells.dtype == object:
                cells = np.stack([np.asarray(cell) for cell in cells]) if len(cells) else np.zeros((0, 0))
            if cells.ndim > 1 and not self.flatten:
                raise ValueError(f"column {name!r} has vectors: Concatenator takes them with flatten=True")
            parts.append(cells.reshape(len(cells), -1))
        joined = np.concatenate(parts, axis=1)
        if self.dtype is not None:
            joined = joined.astype(self.dtype)
        rest = table.drop_columns([name for name in self.columns if name != self.output_column_name])
        return with_column(rest, self.output_column_name, tensor.from_numpy(np.ascontiguousarray(joined)))


class Normalizer(Preprocessor):
    """The columns of each row divided by their norm. Null counts as 0 and stays null; a row of zeros becomes null.

    norm: "l1" (sum of absolute values), "l2" (root of the sum of squares), or "max" (the largest absolute value)."""

    _is_fittable = False
    _shown = ("columns", "norm", "output_columns")

    def __init__(self, columns: list[str], norm: str = "l2", *, output_columns: list[str] | None = None) -> None:
        if norm not in NORMS:
            raise ValueError(f"norm {norm!r} is none of {', '.join(NORMS)}")
        self.columns = list(columns)
        self.norm = norm
        self.output_columns = outputs(columns, output_columns)

    def _transform_arrow(self, table: pa.Table) -> pa.Table:
        values = np.stack([numbers_of(table, name) for name in self.columns])
        sizes = np.abs(np.nan_to_num(values, nan=0.0))
        if self.norm == "l2":
            norms = np.sqrt((sizes * sizes).sum(axis=0))
        else:
            norms = sizes.sum(axis=0) if self.norm == "l1" else sizes.max(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            values = values / norms
        for output, column in zip(self.output_columns, values):
            table = with_column(table, output, pa.array(column, from_pandas=True))
        return table


class PowerTransformer(Preprocessor):
    """Each column by a power, so that its distribution is more like the normal one.

    method: "yeo-johnson" for all numbers, "box-cox" for numbers above 0."""

    _is_fittable = False
    _shown = ("columns", "power", "method", "output_columns")

    def __init__(
        self,
        columns: list[str],
        power: float,
        method: str = "yeo-johnson",
        *,
        output_columns: list[str] | None = None,
    ) -> None:
        if method not in METHODS:
            raise ValueError(f"method {method!r} is none of {', '.join(METHODS)}")
        self.columns = list(columns)
        self.power = power
        self.method = method
        self.output_columns = outputs(columns, output_columns)

    def _transform_arrow(self, table: pa.Table) -> pa.Table:
        for column, output in zip(self.columns, self.output_columns):
            values = numbers_of(table, column)
            with np.errstate(invalid="ignore", divide="ignore"):
                found = self._yeo_johnson(values) if self.method == "yeo-johnson" else _box_cox(values, self.power)
            table = with_column(table, output, pa.array(found, from_pandas=True))
        return table

    def _yeo_johnson(self, values: np.ndarray) -> np.ndarray:
        above = _box_cox(np.where(values >= 0, values, 0.0) + 1, self.power)
        below = -_box_cox(np.where(values < 0, -values, 0.0) + 1, 2 - self.power)
        return np.where(np.isnan(values), np.nan, np.where(values >= 0, above, below))


def _box_cox(values: np.ndarray, power: float) -> np.ndarray:
    return np.log(values) if power == 0 else (values**power - 1) / power


class FeatureHasher(Preprocessor):
    """The values of columns, added up by the hash of the column's name, as a column of vectors. The columns stay.

    It is for tables that have a column for each of very many words."""

    _is_fittable = False
    _shown = ("columns", "num_features", "output_column")

    def __init__(self, columns: list[str], num_features: int, output_column: str) -> None:
        self.columns = list(columns)
        self.num_features = num_features
        self.output_column = output_column
        self.output_columns = [output_column]

    def _transform_arrow(self, table: pa.Table) -> pa.Table:
        kinds = [column_of(table, name).type for name in self.columns]
        whole = all(pa.types.is_integer(kind) for kind in kinds)
        found = np.zeros((table.num_rows, self.num_features), np.int64 if whole else np.float64)
        for name in self.columns:
            values = pc.cast(pc.fill_null(column_of(table, name), 0), pa.int64()) if whole else numbers_of(table, name)
            found[:, bucket(name, self.num_features)] += np.asarray(values)
        return with_column(table, self.output_column, tensor.from_numpy(found))

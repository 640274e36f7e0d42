"""`Preprocessor`: what is fitted to a dataset, and applied to datasets and batches."""

from __future__ import annotations

import enum
import pickle
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import pyarrow as pa

P = TypeVar("P", bound="Preprocessor")


class PreprocessorNotFittedException(RuntimeError):
    """A preprocessor was used before `fit`."""


class Preprocessor:
    """Fitted by `fit` or `fit_transform`, applied by `transform` and `transform_batch`.

    A class of one's own has `_fit(ds)`, which sets ``self.stats_``, unless ``_is_fittable`` is False. It has one of
    `_transform_arrow` (a table), `_transform_pandas` (a DataFrame) and `_transform_numpy` (a dict of arrays).
    """

    _is_fittable = True
    stats_: dict[str, Any] | None = None
    # The parameters that its text shows.
    _shown: tuple[str, ...] = ()

    class FitStatus(str, enum.Enum):
        """How far the fit of a preprocessor is."""

        NOT_FITTABLE = "NOT_FITTABLE"
        NOT_FITTED = "NOT_FITTED"
        PARTIALLY_FITTED = "PARTIALLY_FITTED"
        FITTED = "FITTED"

    def fit_status(self) -> FitStatus:
        """Whether it needs a fit, and has one."""
        if not self._is_fittable:
            return self.FitStatus.NOT_FITTABLE
        return self.FitStatus.FITTED if self.stats_ is not None else self.FitStatus.NOT_FITTED

    def has_stats(self) -> bool:
        """Whether it was fitted."""
        return self.stats_ is not None

    def fit(self: P, ds: Any) -> P:
        """Compute what it needs of a dataset, which runs. A second fit replaces the first."""
        if self.fit_status() is not self.FitStatus.NOT_FITTABLE:
            self._fit(ds)
        return self

    def fit_transform(
        self,
        ds: Any,
        *,
        transform_num_cpus: float | None = None,
        transform_memory: float | None = None,
        transform_batch_size: int | None = None,
        transform_concurrency: int | None = None,
    ) -> Any:
        """The dataset, transformed after a fit to it, with these arguments of `transform`."""
        self.fit(ds)
        return self.transform(
            ds,
            batch_size=transform_batch_size,
            num_cpus=transform_num_cpus,
            memory=transform_memory,
            concurrency=transform_concurrency,
        )

    def transform(
        self,
        ds: Any,
        *,
        batch_size: int | None = None,
        num_cpus: float | None = None,
        memory: float | None = None,
        concurrency: int | None = None,
    ) -> Any:
        """The dataset with the transformation on top. Raises PreprocessorNotFittedException before `fit`."""
        self._check_fitted("transform")
        options = {"num_cpus": num_cpus, "memory": memory, "concurrency": concurrency}
        given = {name: value for name, value in options.items() if value is not None}
        return ds.map_batches(self._on_batch, batch_size=batch_size, batch_format=self._format(), **given)

    def transform_batch(self, data: Any) -> Any:
        """A batch (a DataFrame, a dict of arrays, or a table), transformed, as the same kind of batch.

        A DataFrame keeps its index, and the columns that it had and that are not written keep their types."""
        from hpc.data.block import batch, build

        self._check_fitted("transform_batch")
        wanted = "pyarrow" if isinstance(data, pa.Table) else "numpy" if isinstance(data, Mapping) else "pandas"
        used = self._format()
        given = data
        if wanted != used:
            data = batch.to_batch(build.table(data, type(self).__name__), used, zero_copy=False)
        result = self._on_batch(data)
        if wanted == used:
            return result
        table = build.table(result, type(self).__name__)
        return batch.to_batch(table, wanted) if wanted != "pandas" else self._like_frame(given, table)

    def get_input_columns(self) -> list[str]:
        """The columns that it reads."""
        return list(getattr(self, "columns", []))

    def get_output_columns(self) -> list[str]:
        """The columns that it writes."""
        return list(getattr(self, "output_columns", []))

    def serialize(self) -> bytes:
        """It and what it was fitted to, as bytes for `deserialize`."""
        from hpc import cloudpickle

        data: bytes = cloudpickle.dumps(self)
        return data

    @staticmethod
    def deserialize(serialized: bytes) -> Preprocessor:
        """The preprocessor of these bytes; only of bytes that are trusted. Raises TypeError for anything else."""
        found = pickle.loads(serialized)
        if not isinstance(found, Preprocessor):
            raise TypeError(f"these bytes are no preprocessor but a {type(found).__name__}")
        return found

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={_said(getattr(self, name))}" for name in self._shown)
        return f"{type(self).__name__}({shown})"

    # -------------------------------------------------------------- what a class of one's own has

    def _fit(self, ds: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no _fit")

    def _transform_arrow(self, table: pa.Table) -> pa.Table:
        raise NotImplementedError

    def _transform_pandas(self, df: Any) -> Any:
        raise NotImplementedError

    def _transform_numpy(self, np_data: dict[str, Any]) -> dict[str, Any]:
        raise NotImplementedError

    # -------------------------------------------------------------- for us

    def _check_fitted(self, method: str) -> None:
        if self.fit_status() in (self.FitStatus.NOT_FITTED, self.FitStatus.PARTIALLY_FITTED):
            raise PreprocessorNotFittedException(f"{type(self).__name__} was not fitted: call `fit` before `{method}`")

    def _format(self) -> str:
        """The format of batches that its class transforms."""
        formats = {"pyarrow": "_transform_arrow", "pandas": "_transform_pandas", "numpy": "_transform_numpy"}
        for name, method in formats.items():
            if getattr(type(self), method) is not getattr(Preprocessor, method):
                return name
        raise NotImplementedError(f"{type(self).__name__} has none of {', '.join(formats.values())}")

    def _like_frame(self, frame: Any, table: pa.Table) -> Any:
        """What became of a DataFrame, as one with its index and with columns of its kind."""
        import pandas as pd

        from hpc.data.block import batch

        if table.num_rows != len(frame):
            return batch.to_batch(table, "pandas")
        in_arrow = any(isinstance(dtype, pd.ArrowDtype) for dtype in frame.dtypes)
        written = set(self.get_output_columns()) or set(table.column_names)
        columns = {}
        for name in table.column_names:
            column = table.column(name)
            if name in frame.columns and name not in written:
                columns[name] = frame[name]
            elif in_arrow or isinstance(column.type, pa.BaseExtensionType):
                columns[name] = batch.to_batch(table.select([name]), "pandas")[name].set_axis(frame.index)
            else:
                columns[name] = column.to_pandas().set_axis(frame.index)
        return pd.DataFrame(columns, index=frame.index)

    def _on_batch(self, data: Any) -> Any:
        used = self._format()
        if used == "pyarrow":
            return self._transform_arrow(data)
        return self._transform_pandas(data) if used == "pandas" else self._transform_numpy(data)


def _said(value: Any) -> str:
    return getattr(value, "__name__", repr(value)) if callable(value) else repr(value)


def outputs(columns: Sequence[str], output_columns: Sequence[str] | None) -> list[str]:
    """The names of the output columns: by default those of the input. Raises ValueError for another number of them."""
    if output_columns is None:
        return list(columns)
    if len(output_columns) != len(columns):
        raise ValueError(f"output_columns has {len(output_columns)} names for {len(columns)} columns")
    return list(output_columns)


def column_of(table: pa.Table, name: str) -> pa.ChunkedArray:
    """A column. Raises ValueError that names those that are there."""
    if name not in table.column_names:
        raise ValueError(f"there is no column {name!r}: the columns are {table.column_names}")
    return table.column(name)


def with_column(table: pa.Table, name: str, values: Any) -> pa.Table:
    """The table with a column of this name: in the place of the one that had it, else behind all."""
    place = table.schema.get_field_index(name)
    return table.append_column(name, values) if place < 0 else table.set_column(place, name, values)


def aggregated(ds: Any, *fns: Any) -> dict[str, Any]:
    """What aggregates give for a dataset; None for each where it has no rows."""
    if not fns:
        return {}
    found = ds.aggregate(*fns)
    return dict.fromkeys(fn.name for fn in fns) if found is None else dict(found)

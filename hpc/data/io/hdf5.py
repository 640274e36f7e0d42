"""HDF5 and NetCDF files: datasets that share their first axis are columns, and steps along it are rows.

A file is opened in the task that reads it, and never before a fork. Reads are of whole chunks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from hpc.data.block import build
from hpc.data.io.formats import Format
from hpc.data.io.grouping import Piece
from hpc.data.io.opened import OpenFile
from hpc.data.packages import needs

#: A table has about so many bytes, and a piece of a file.
TABLE = 8 << 20
PIECE = 32 << 20


@dataclass(frozen=True)
class Hdf5Format(Format):
    """``names``: the datasets, as paths in the file; None: all, which must then have one length."""

    names: tuple[str, ...] | None = None

    name = "HDF5"
    unit = "rows"
    has_parts = True

    def __post_init__(self) -> None:
        needs("h5py", "read_hdf5", "h5py")

    def open(self, file: OpenFile) -> Any:
        """The file. Locks are not taken: parallel file systems refuse them, and it is only read."""
        import h5py

        return h5py.File(file.local or file.random(), "r", locking=False)

    def columns(self, opened: Any) -> dict[str, Any]:
        """The arrays by the names of their columns, all of one length. Raises ValueError or KeyError."""
        import h5py

        if self.names is not None:
            if missing := [name for name in self.names if name not in opened]:
                raise ValueError(f"there are no datasets {missing}; there are {sorted(found_in(opened))}")
            arrays = {name: opened[name] for name in self.names}
        else:
            arrays = {name: opened[name] for name in found_in(opened)}
        for name, array in arrays.items():
            if not isinstance(array, h5py.Dataset) or not array.shape:
                raise ValueError(f"{name!r} is no dataset with an axis")
        return arrays

    def sized(self, opened: Any) -> tuple[dict[str, Any], int]:
        arrays = self.columns(opened)
        lengths = {name: array.shape[0] for name, array in arrays.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"the datasets have several lengths {lengths}: name those that are read together")
        return arrays, next(iter(lengths.values()), 0)

    def parts(self, file: OpenFile) -> list[Piece] | None:
        with self.open(file) as opened:
            arrays, rows = self.sized(opened)
            size = row_bytes(arrays)
            step = aligned(arrays, PIECE)
            return [
                Piece(file.path, first, min(rows, first + step), min(rows, first + step) - first, step * size)
                for first in range(0, rows, step)
            ]

    def tables(self, file: OpenFile, piece: Piece, columns: list[str] | None) -> Iterator[pa.Table]:
        with self.open(file) as opened:
            arrays, rows = self.sized(opened)
            if columns is not None:
                arrays = {name: array for name, array in arrays.items() if name in columns} or arrays
            step = aligned(arrays, TABLE)
            end = rows if piece.end is None else min(rows, piece.end)
            for first in range(piece.first, end, step):
                cells: dict[str, Any] = {}
                for name, array in arrays.items():
                    try:
                        cells.update(self.read(name, array, first, min(end, first + step), len(arrays) == 1))
                    except OSError as error:
                        raise file.error(error, (first, min(end, first + step)), name) from error
                yield build.table(cells, f"read_{self.name.lower()}")

    def read(self, name: str, array: Any, first: int, end: int, alone: bool) -> dict[str, Any]:
        """Some rows of a dataset. Fields of records are columns of their own."""
        import h5py

        if h5py.check_string_dtype(array.dtype) is not None:
            array = array.asstr()
        values = array[first:end]
        if values.dtype.names is None:
            return {name: values}
        return {(one if alone else f"{name}.{one}"): values[one] for one in values.dtype.names}


def found_in(opened: Any) -> list[str]:
    """The paths of all datasets of a file that have an axis."""
    import h5py

    names: list[str] = []
    opened.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) and item.shape else None)
    return names


def row_bytes(arrays: dict[str, Any]) -> int:
    return max(1, sum(array.dtype.itemsize * math.prod(array.shape[1:]) for array in arrays.values()))


def aligned(arrays: dict[str, Any], nbytes: int) -> int:
    """Rows of about so many bytes: whole chunks of all arrays, where chunks are not larger than that."""
    rows = max(1, nbytes // row_bytes(arrays))
    chunk = math.lcm(*(array.chunks[0] for array in arrays.values() if array.chunks)) if arrays else 1
    return rows // chunk * chunk if chunk <= rows else max(rows, min(chunk, 64 * rows))


@dataclass(frozen=True)
class NetCdfFormat(Hdf5Format):
    """``names``: variables (None: all along the axis); ``axis``: the dimension whose steps are rows.

    Without ``axis`` it is the unlimited dimension, else the first one of the first variable that is no coordinate.
    """

    axis: str | None = None

    name = "NetCDF"

    def __post_init__(self) -> None:
        needs("h5netcdf", "read_netcdf", "h5netcdf")

    def open(self, file: OpenFile) -> Any:
        import h5netcdf

        return h5netcdf.File(file.local or file.random(), "r")

    def columns(self, opened: Any) -> dict[str, Any]:
        variables = opened.variables
        if self.names is not None and (missing := [name for name in self.names if name not in variables]):
            raise ValueError(f"there are no variables {missing}; there are {sorted(variables)}")
        axis = self.axis or usual_axis(opened)
        if axis not in opened.dimensions:
            raise ValueError(f"there is no dimension {axis!r}; there are {sorted(opened.dimensions)}")
        found = {name: variables[name] for name in self.names or variables}
        along = {name: one for name, one in found.items() if one.dimensions and one.dimensions[0] == axis}
        if self.names is not None and (other := [name for name in found if name not in along]):
            raise ValueError(f"the variables {other} do not begin with the dimension {axis!r}")
        return along

    def read(self, name: str, array: Any, first: int, end: int, alone: bool) -> dict[str, Any]:
        return {name: scaled(np.asarray(array[first:end]), dict(array.attrs))}


def usual_axis(opened: Any) -> str:
    unlimited = [name for name, dimension in opened.dimensions.items() if dimension.isunlimited()]
    if unlimited:
        return unlimited[0]
    for name, variable in opened.variables.items():
        if variable.dimensions and name not in opened.dimensions:
            return variable.dimensions[0]
    return next(iter(opened.dimensions), "")


def scaled(values: np.ndarray, attributes: dict[str, Any]) -> np.ndarray:
    """The values as the conventions of NetCDF mean them: scaled, with an offset, and nan for what is missing."""
    factor, offset = attributes.get("scale_factor"), attributes.get("add_offset")
    fill = attributes.get("_FillValue", attributes.get("missing_value"))
    if values.dtype.kind not in "iuf" or (factor is None and offset is None and fill is None):
        return values
    missing = np.isin(values, np.atleast_1d(fill)) if fill is not None else None
    if factor is None and offset is None and (missing is None or not missing.any()):
        return values
    found = values.astype(np.float32 if values.dtype.itemsize <= 2 or values.dtype == np.float32 else np.float64)
    if missing is not None:
        found[missing] = np.nan
    if factor is not None:
        found = found * np.asarray(factor).reshape(-1)[0].astype(found.dtype)
    if offset is not None:
        found = found + np.asarray(offset).reshape(-1)[0].astype(found.dtype)
    return found

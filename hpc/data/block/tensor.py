"""Columns whose cells are numpy arrays.

Cells of one shape are Arrow's `fixed_shape_tensor`, which other programs read as well. Cells of several shapes are the
extension type of this file. Both give numpy arrays that are views of Arrow's buffers wherever that is possible.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from hpc.data.block import flat
from hpc.data.block.errors import DataTypeError


class RaggedTensorType(pa.ExtensionType):
    """Tensors of several shapes: all numbers in one list of each cell, and the cell's shape beside them.

    ndim: the number of dimensions of a cell, the most that one has.
    """

    def __init__(self, value_type: pa.DataType, ndim: int) -> None:
        self.value_type = value_type
        self.ndim = ndim
        storage = pa.struct([("data", pa.large_list(value_type)), ("shape", pa.list_(pa.int64()))])
        super().__init__(storage, "hpc.data.ragged_tensor")

    def __arrow_ext_serialize__(self) -> bytes:
        return str(self.ndim).encode()

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> RaggedTensorType:
        return cls(storage_type.field("data").type.value_type, int(serialized))

    def __arrow_ext_class__(self) -> type:
        return RaggedTensorArray

    def __arrow_ext_scalar_class__(self) -> type:
        return RaggedTensorScalar

    def __reduce__(self) -> Any:
        return RaggedTensorType, (self.value_type, self.ndim)

    def __repr__(self) -> str:
        return f"RaggedTensorType(ndim={self.ndim}, dtype={self.value_type})"

    __str__ = __repr__

    def __hash__(self) -> int:
        return hash((self.extension_name, str(self.value_type), self.ndim))


class RaggedTensorScalar(pa.ExtensionScalar):
    """One tensor."""

    def as_py(self, **_: Any) -> np.ndarray | None:
        """The tensor as a numpy array, or None."""
        if not self.is_valid:
            return None
        shape = self.value["shape"].as_py()
        return values_to_numpy(self.value["data"].values).reshape(shape)


class RaggedTensorArray(pa.ExtensionArray):
    """Many tensors."""

    def to_pylist(self, **_: Any) -> list[np.ndarray | None]:
        """A list of numpy arrays."""
        return list(to_cells(self))


def is_fixed(kind: pa.DataType) -> bool:
    """Whether it is a type of tensors of one shape."""
    return isinstance(kind, pa.FixedShapeTensorType)


def is_tensor(kind: pa.DataType) -> bool:
    """Whether it is a type of tensors."""
    return isinstance(kind, (pa.FixedShapeTensorType, RaggedTensorType))


def value_type(kind: pa.DataType) -> pa.DataType:
    """The type of the numbers in a tensor."""
    return kind.value_type


def values_from_numpy(flat: np.ndarray) -> pa.Array:
    """The Arrow array of a flat numpy array, a view of it where that is possible."""
    if flat.dtype.kind == "S":
        return pa.array(flat.tolist(), pa.binary())
    return pa.array(flat)


def values_to_numpy(values: pa.Array) -> np.ndarray:
    """The flat numpy array of an Arrow array without nulls."""
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return np.array(values.to_pylist(), dtype=np.str_)
    if pa.types.is_binary(kind):
        return np.array(values.to_pylist(), dtype=np.bytes_)
    return flat.to_numpy(values)


def from_numpy(array: np.ndarray, mask: np.ndarray | None = None) -> pa.Array:
    """The column whose cell i is array[i]. `mask` is true where a cell is null."""
    shape = array.shape[1:]
    if array.dtype == object:
        raise DataTypeError(f"a tensor of Python objects (shape {array.shape}) has no type in Arrow")
    flat = np.ascontiguousarray(array).reshape(-1)
    values = values_from_numpy(flat)
    size = int(np.prod(shape, dtype=np.int64))
    if size == 0 or not shape:
        count = len(array)
        return _ragged(values, np.arange(count + 1, dtype=np.int64) * size, [shape] * count, mask)
    valid = None if mask is None else pa.array(~mask)
    buffer = None if valid is None else valid.buffers()[1]
    storage = pa.FixedSizeListArray.from_buffers(
        pa.list_(values.type, size), len(array), [buffer], null_count=-1 if buffer else 0, children=[values]
    )
    return pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(values.type, shape), storage)


def from_cells(cells: Sequence[np.ndarray | None]) -> pa.Array:
    """The column of these arrays: of one type if all have one shape, ragged otherwise. A None is a null."""
    arrays = [cell for cell in cells if cell is not None]
    if not arrays:
        return pa.nulls(len(cells))
    mask = np.array([cell is None for cell in cells]) if len(arrays) < len(cells) else None
    shape = arrays[0].shape
    if all(cell.shape == shape for cell in arrays) and shape and 0 not in shape:
        if mask is not None:
            blank = np.zeros_like(arrays[0])
            arrays = [blank if cell is None else cell for cell in cells]
        return from_numpy(np.stack(arrays), mask)
    dims = max(cell.ndim for cell in arrays)
    shapes = [() if cell is None else cell.shape for cell in cells]
    flats = [np.asarray(cell).reshape(-1) for cell in arrays]
    flat = np.concatenate(flats)
    if flat.dtype == object:
        raise DataTypeError("tensors of Python objects have no type in Arrow")
    lengths = [0 if cell is None else cell.size for cell in cells]
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    return _ragged(values_from_numpy(flat), offsets, shapes, mask, dims)


def _ragged(
    values: pa.Array,
    offsets: np.ndarray,
    shapes: Sequence[tuple[int, ...]],
    mask: np.ndarray | None,
    ndim: int | None = None,
) -> pa.Array:
    kind = RaggedTensorType(values.type, ndim if ndim is not None else len(shapes[0]) if shapes else 1)
    data = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), values)
    flat = np.array([n for shape in shapes for n in shape], dtype=np.int64)
    ends = np.concatenate([[0], np.cumsum([len(shape) for shape in shapes], dtype=np.int64)]).astype(np.int32)
    shape = pa.ListArray.from_arrays(pa.array(ends), pa.array(flat))
    null = None if mask is None else pa.array(mask)
    storage = pa.StructArray.from_arrays([data, shape], fields=list(kind.storage_type), mask=null)
    return pa.ExtensionArray.from_storage(kind, storage)


def ndim(kind: pa.DataType) -> int:
    """The number of dimensions of each tensor."""
    return len(kind.shape) if is_fixed(kind) else kind.ndim


def convert(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """A column of tensors as one of another type: other numbers, or among tensors of other shapes."""
    storage, null = array.storage, array.null_count > 0
    mask = np.asarray(array.is_null()) if null else None
    if is_fixed(array.type):
        shape = tuple(array.type.shape)
        size = int(np.prod(shape))
        values = storage.values.slice(storage.offset * size, len(storage) * size).cast(kind.value_type)
        if is_fixed(kind):
            items = pa.FixedSizeListArray.from_arrays(values, size, mask=None if mask is None else pa.array(mask))
            return pa.ExtensionArray.from_storage(kind, items)
        return _ragged(values, np.arange(len(array) + 1, dtype=np.int64) * size, [shape] * len(array), mask, kind.ndim)
    data = storage.field("data")
    shapes = [() if cell is None else cell.shape for cell in to_cells(array)]
    return _ragged(data.values.cast(kind.value_type), data.offsets.to_numpy(), shapes, mask, kind.ndim)


def to_numpy(array: pa.Array) -> np.ndarray:
    """The cells as one array: with one axis more for tensors of one shape, an array of arrays for the ragged type."""
    kind = array.type
    if is_fixed(kind) and not array.null_count:
        shape, storage = tuple(kind.shape), array.storage
        size = int(np.prod(shape, dtype=np.int64))
        values = storage.values.slice(storage.offset * size, len(storage) * size)
        return values_to_numpy(values).reshape((len(array), *shape))
    return _objects(to_cells(array))


def _objects(cells: Sequence[Any]) -> np.ndarray:
    return np.fromiter(cells, dtype=object, count=len(cells))


def to_cells(array: pa.Array) -> list[np.ndarray | None]:
    """The cells as views, None for a null."""
    kind, nulls = array.type, np.asarray(array.is_null()) if array.null_count else None
    if is_fixed(kind):
        shape, storage = tuple(kind.shape), array.storage
        size = int(np.prod(shape, dtype=np.int64))
        values = storage.values.slice(storage.offset * size, len(storage) * size)
        whole = values_to_numpy(values if not values.null_count else values.fill_null(0))
        cells: list[np.ndarray | None] = list(whole.reshape((len(array), *shape)))
        if nulls is not None:
            for place in np.flatnonzero(nulls):
                cells[place] = None
    else:
        data, shapes = array.storage.field("data"), array.storage.field("shape")
        offsets = data.offsets.to_numpy()
        flat = values_to_numpy(data.values)
        ends, sizes = shapes.offsets.to_numpy(), shapes.values.to_numpy()
        cells = [
            None
            if nulls is not None and nulls[i]
            else flat[offsets[i] : offsets[i + 1]].reshape(sizes[ends[i] : ends[i + 1]])
            for i in range(len(array))
        ]
    return cells


def register() -> None:
    """Make Arrow know the ragged type, so that files and messages with it come back as it. More than once is fine."""
    try:
        pa.register_extension_type(RaggedTensorType(pa.int64(), 1))
    except pa.ArrowKeyError:
        pass


register()

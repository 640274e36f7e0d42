"""Columns of Python objects for which Arrow has no type: each cell is a pickle."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from hpc.cloudpickle import dumps


class ObjectType(pa.ExtensionType):
    """Any Python object."""

    def __init__(self) -> None:
        super().__init__(pa.large_binary(), "hpc.data.object")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> ObjectType:
        return cls()

    def __arrow_ext_class__(self) -> type:
        return ObjectArray

    def __arrow_ext_scalar_class__(self) -> type:
        return ObjectScalar

    def __reduce__(self) -> Any:
        return ObjectType, ()

    def __hash__(self) -> int:
        return hash(self.extension_name)


class ObjectScalar(pa.ExtensionScalar):
    """One Python object."""

    def as_py(self, **_: Any) -> Any:
        """The object."""
        return pickle.loads(self.value.as_buffer()) if self.is_valid else None


class ObjectArray(pa.ExtensionArray):
    """Many Python objects."""

    def to_pylist(self, **_: Any) -> list[Any]:
        """A list of the objects."""
        return to_cells(self)


def is_object(kind: pa.DataType) -> bool:
    """Whether it is the type of Python objects."""
    return isinstance(kind, ObjectType)


def has_object(kind: pa.DataType) -> bool:
    """Whether Python objects are anywhere in values of a type: its own, or inside of structs, lists and others."""
    if is_object(kind):
        return True
    if isinstance(kind, pa.BaseExtensionType):
        return has_object(kind.storage_type)
    if pa.types.is_map(kind):
        return has_object(kind.key_type) or has_object(kind.item_type)
    if pa.types.is_struct(kind) or pa.types.is_union(kind):
        return any(has_object(kind.field(place).type) for place in range(kind.num_fields))
    inner = getattr(kind, "value_type", None)  # Of lists, dictionaries and run ends.
    return inner is not None and has_object(inner)


def from_cells(cells: Sequence[Any]) -> pa.Array:
    """The column of these objects. A None is a null."""
    pickles = pa.array([None if cell is None else dumps(cell) for cell in cells], pa.large_binary())
    return pa.ExtensionArray.from_storage(ObjectType(), pickles)


def to_cells(array: pa.Array) -> list[Any]:
    """The objects, None for a null."""
    return [None if one is None else pickle.loads(one) for one in array.storage.to_pylist()]


def to_numpy(array: pa.Array) -> np.ndarray:
    """The objects as an array of dtype object."""
    return np.fromiter(to_cells(array), dtype=object, count=len(array))


def register() -> None:
    """Make Arrow know the type, so that files and messages with it come back as it. More than once is fine."""
    try:
        pa.register_extension_type(ObjectType())
    except pa.ArrowKeyError:
        pass


register()

"""Types of columns, one name for those of Arrow, numpy and Python."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

import numpy as np
import pyarrow as pa

from hpc.data.block import build, tensor

#: The class, for where `bool` is the type of columns.
BOOL = bool
TIMES: dict[str, tuple[str, tuple[str, ...], Callable[..., pa.DataType]]] = {
    "time32": ("s", ("s", "ms"), pa.time32),
    "time64": ("us", ("us", "ns"), pa.time64),
    "duration": ("us", ("s", "ms", "us", "ns"), pa.duration),
}


class TypeCategory(str, Enum):
    """Groups of types: see `DataType.is_of`."""

    LIST = "list"
    LARGE_LIST = "large_list"
    STRUCT = "struct"
    MAP = "map"
    TENSOR = "tensor"
    TEMPORAL = "temporal"


def _arrow(make: Callable[[], pa.DataType]) -> Any:
    def of(cls: type[DataType]) -> DataType:
        return cls(make())

    of.__doc__ = f"The Arrow type {make()}."
    return classmethod(of)


class DataType:
    """A type of Arrow, a dtype of numpy, or a class of Python. Raises TypeError for anything else."""

    def __init__(self, _physical_dtype: pa.DataType | np.dtype | type) -> None:
        if not isinstance(_physical_dtype, (pa.DataType, np.dtype, type)):
            raise TypeError(f"a DataType is made of an Arrow type, a numpy dtype or a class, not {_physical_dtype!r}")
        self._physical_dtype = _physical_dtype

    int8, int16, int32, int64 = _arrow(pa.int8), _arrow(pa.int16), _arrow(pa.int32), _arrow(pa.int64)
    uint8, uint16, uint32, uint64 = _arrow(pa.uint8), _arrow(pa.uint16), _arrow(pa.uint32), _arrow(pa.uint64)
    float32, float64 = _arrow(pa.float32), _arrow(pa.float64)
    string, bool, binary = _arrow(pa.string), _arrow(pa.bool_), _arrow(pa.binary)

    # -------------------------------------------------------------- made of other types

    @classmethod
    def from_arrow(cls, arrow_type: pa.DataType) -> DataType:
        """The Arrow type."""
        return cls(arrow_type)

    @classmethod
    def from_numpy(cls, numpy_dtype: Any) -> DataType:
        """The dtype of numpy, or the one of this name."""
        return cls(np.dtype(numpy_dtype) if isinstance(numpy_dtype, str) else numpy_dtype)

    @classmethod
    def from_dtype(cls, dtype: Any) -> DataType | None:
        """The type that a dtype of Arrow, numpy or pandas stands for, or a class; None for anything else."""
        if dtype is None or isinstance(dtype, DataType):
            return dtype
        if isinstance(dtype, (pa.DataType, np.dtype)):
            return cls(dtype)
        if isinstance(dtype, type):
            return cls(np.dtype(dtype)) if issubclass(dtype, np.generic) else cls(dtype)
        arrow = getattr(dtype, "pyarrow_dtype", None)
        if isinstance(arrow, pa.DataType):
            return cls(arrow)
        if type(dtype).__name__ == "StringDtype":
            return cls(pa.string())
        try:
            return cls(np.dtype(getattr(dtype, "numpy_dtype", dtype)))
        except (TypeError, ValueError):
            return None

    @classmethod
    def infer_dtype(cls, value: Any) -> DataType:
        """The type of a value: the dtype of a numpy value, else the Arrow type, else its class."""
        if isinstance(value, (np.ndarray, np.generic)):
            return cls(value.dtype)
        kind = build.column([value]).type
        return cls(type(value)) if isinstance(kind, pa.BaseExtensionType) and not tensor.is_tensor(kind) else cls(kind)

    @classmethod
    def list(cls, value_type: DataType) -> DataType:
        """Lists of this type."""
        return cls(pa.list_(value_type.to_arrow_dtype()))

    @classmethod
    def large_list(cls, value_type: DataType) -> DataType:
        """Lists of this type with 64-bit ends."""
        return cls(pa.large_list(value_type.to_arrow_dtype()))

    @classmethod
    def fixed_size_list(cls, value_type: DataType, list_size: int) -> DataType:
        """Lists of this type, all of one length."""
        return cls(pa.list_(value_type.to_arrow_dtype(), list_size))

    @classmethod
    def struct(cls, fields: Sequence[tuple[str, DataType]]) -> DataType:
        """Structs of these fields."""
        return cls(pa.struct([(name, kind.to_arrow_dtype()) for name, kind in fields]))

    @classmethod
    def map(cls, key_type: DataType, value_type: DataType) -> DataType:
        """Maps from keys to values."""
        return cls(pa.map_(key_type.to_arrow_dtype(), value_type.to_arrow_dtype()))

    @classmethod
    def tensor(cls, shape: tuple[int, ...], dtype: DataType) -> DataType:
        """Arrays of one shape."""
        return cls(pa.fixed_shape_tensor(dtype.to_arrow_dtype(), tuple(shape)))

    @classmethod
    def variable_shaped_tensor(cls, dtype: DataType, ndim: int = 2) -> DataType:
        """Arrays of several shapes, each of `ndim` dimensions."""
        return cls(tensor.RaggedTensorType(dtype.to_arrow_dtype(), ndim))

    @classmethod
    def temporal(cls, temporal_type: str, unit: str | None = None, tz: str | None = None) -> DataType:
        """A type of times: timestamp, date32, date64, time32, time64 or duration. Raises ValueError for others."""
        word = temporal_type.lower()
        if word == "timestamp":
            return cls(pa.timestamp(unit or "us", tz=tz))
        if word in ("date32", "date64"):
            return cls(pa.date32() if word == "date32" else pa.date64())
        if word not in TIMES:
            raise ValueError(f"Invalid temporal_type {temporal_type!r}: it is timestamp, date32, date64 or {[*TIMES]}")
        default, units, make = TIMES[word]
        if (unit or default) not in units:
            raise ValueError(f"{word} unit must be one of {units}, got {unit}")
        return cls(make(unit or default))

    # -------------------------------------------------------------- as another type

    def to_arrow_dtype(self, values: Sequence[Any] | None = None) -> pa.DataType:
        """The Arrow type. That of a class is found from values; without any, this raises AssertionError."""
        kind = self._physical_dtype
        if isinstance(kind, pa.DataType):
            return kind
        if isinstance(kind, np.dtype):
            return pa.from_numpy_dtype(kind)
        if not values:
            raise AssertionError(f"the Arrow type of {self} is not known without values")
        return build.column(list(values)).type if not isinstance(values, np.ndarray) else pa.array(values).type

    def to_numpy_dtype(self) -> np.dtype:
        """The dtype of numpy; that of objects where numpy has none."""
        kind = self._physical_dtype
        if isinstance(kind, np.dtype):
            return kind
        if isinstance(kind, pa.DataType):
            try:
                return np.dtype(kind.to_pandas_dtype())
            except (TypeError, ValueError, NotImplementedError):
                pass
        return np.dtype(object)

    def to_python_type(self) -> type:
        """The class. Raises ValueError if this is none."""
        if isinstance(self._physical_dtype, type):
            return self._physical_dtype
        raise ValueError(f"{self} is not a class of Python: to_arrow_dtype() and to_numpy_dtype() give what it is")

    def __repr__(self) -> str:
        kind = self._physical_dtype
        if isinstance(kind, pa.DataType):
            return f"DataType(arrow:{kind})"
        return f"DataType(numpy:{kind})" if isinstance(kind, np.dtype) else f"DataType(python:{kind.__name__})"

    def __eq__(self, other: object) -> Any:
        return (
            isinstance(other, DataType)
            and type(self._physical_dtype) is type(other._physical_dtype)
            and self._physical_dtype == other._physical_dtype
        )

    def __hash__(self) -> int:
        return hash((type(self._physical_dtype), self._physical_dtype))

    # -------------------------------------------------------------- questions

    def is_arrow_type(self) -> Any:
        """Whether it is a type of Arrow."""
        return isinstance(self._physical_dtype, pa.DataType)

    def is_numpy_type(self) -> Any:
        """Whether it is a dtype of numpy."""
        return isinstance(self._physical_dtype, np.dtype)

    def is_python_type(self) -> Any:
        """Whether it is a class of Python."""
        return isinstance(self._physical_dtype, type)

    def is_of(self, category: TypeCategory | str) -> Any:
        """Whether it is of a category; False for a category that there is not."""
        questions = {
            "list": self.is_list_type,
            "large_list": lambda: self._is(pa.types.is_large_list, pa.types.is_large_list_view),
            "struct": self.is_struct_type,
            "map": self.is_map_type,
            "tensor": self.is_tensor_type,
            "temporal": self.is_temporal_type,
        }
        word = category.value if isinstance(category, TypeCategory) else category
        return word in questions and questions[word]()

    def _is(self, *checks: Callable[[pa.DataType], Any]) -> Any:
        """Whether it is an Arrow type for which one of these is true."""
        return self.is_arrow_type() and any(check(self._physical_dtype) for check in checks)

    def _in(self, checks: tuple[Callable[[pa.DataType], Any], ...], kinds: str, classes: tuple[type, ...]) -> Any:
        """The same, or a dtype of one of these kinds, or one of these classes; a dictionary is what its values are."""
        kind = self._physical_dtype
        if isinstance(kind, pa.DataType):
            encoded = pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind)
            inner = kind.value_type if encoded else kind
            return any(check(inner) for check in checks)
        return kind.kind in kinds if isinstance(kind, np.dtype) else kind in classes

    def is_list_type(self) -> Any:
        """Whether it is a list of any kind."""
        types = pa.types
        return self._is(
            types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_list_view, types.is_large_list_view
        )

    def is_tensor_type(self) -> Any:
        """Whether its cells are arrays."""
        return self._is(tensor.is_tensor)

    def is_struct_type(self) -> Any:
        """Whether it is a struct."""
        return self._is(pa.types.is_struct)

    def is_map_type(self) -> Any:
        """Whether it is a map."""
        return self._is(pa.types.is_map)

    def is_nested_type(self) -> Any:
        """Whether it is a list, a struct, a map or a union."""
        return self._is(pa.types.is_nested)

    def is_null_type(self) -> Any:
        """Whether all cells are null."""
        return self._is(pa.types.is_null)

    def is_boolean_type(self) -> Any:
        """Whether it is true or false."""
        return self._in((pa.types.is_boolean,), "b", (BOOL,))

    def is_integer_type(self) -> Any:
        """Whether it is an integer of any width."""
        return self._in((pa.types.is_integer,), "iu", (int,))

    def is_floating_type(self) -> Any:
        """Whether it is a float of any width."""
        return self._in((pa.types.is_floating,), "f", (float,))

    def is_uint64_type(self) -> Any:
        """Whether it is an unsigned integer of 64 bits."""
        return self._in((pa.types.is_uint64,), "", ()) or self._physical_dtype == np.dtype("uint64")

    def is_numerical_type(self) -> Any:
        """Whether it is a number: integer, float or decimal."""
        checks = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
        return self._in(checks, "iufc", (int, float, complex))

    def is_string_type(self) -> Any:
        """Whether it is text."""
        return self._in((pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view), "US", (str,))

    def is_binary_type(self) -> Any:
        """Whether it is bytes."""
        types = pa.types
        checks = (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary)
        return self._in(checks, "V", (bytes, bytearray))

    def is_temporal_type(self) -> Any:
        """Whether it is a time, a date or a duration."""
        classes = (datetime.datetime, datetime.date, datetime.time, datetime.timedelta)
        return self._in((pa.types.is_temporal,), "mM", classes)

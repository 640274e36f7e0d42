"""The schema of a dataset, as users see it."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from hpc.data.block import objects, tensor
from hpc.data.block.bare import names


class Schema:
    """Names and types of the columns.

    base_schema: the Arrow schema.
    """

    def __init__(self, base_schema: pa.Schema, *, data_context: Any = None) -> None:
        self.base_schema = base_schema

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return names(self.base_schema)

    @property
    def types(self) -> list[pa.DataType]:
        """The Arrow types of the columns."""
        return list(self.base_schema.types)[: len(self.names)]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schema) and other.names == self.names and other.types == self.types

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        width = max(len(name) for name in [*self.names, "Column"]) + 2
        lines = ["Column".ljust(width) + "Type", "------".ljust(width) + "----"]
        lines += [name.ljust(width) + type_name(kind) for name, kind in zip(self.names, self.types)]
        return "\n".join(lines)


def type_name(kind: pa.DataType) -> str:
    """The name of a type, with Ray's names for tensors and objects."""
    if tensor.is_fixed(kind):
        return f"ArrowTensorTypeV2(shape={tuple(kind.shape)}, dtype={kind.value_type})"
    if tensor.is_tensor(kind):
        return f"ArrowVariableShapedTensorType(ndim={kind.ndim}, dtype={kind.value_type})"
    if objects.is_object(kind):
        return "extension<hpc.data.arrow_pickled_object<ArrowPythonObjectType>>"
    return str(kind)

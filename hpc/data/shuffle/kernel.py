"""A state of an aggregate that is computed for all groups at once by a function that Arrow has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa


@dataclass(frozen=True)
class Kernel:
    """One state of an aggregate that Arrow's group-by computes: function of it over one array."""

    array: pa.Array | pa.ChunkedArray
    function: str
    options: Any = None

    @property
    def identity(self) -> tuple[Any, ...]:
        """Equal for kernels that compute the same. Counts of columns without nulls are all alike."""
        array = self.array
        if self.function == "count" and not array.null_count and getattr(self.options, "mode", "") != "only_null":
            return ("count",)
        chunks = array.chunks if isinstance(array, pa.ChunkedArray) else [array]
        return (self.function, repr(self.options), str(array.type), *(_memory(chunk) for chunk in chunks))


def _memory(array: pa.Array) -> tuple[Any, ...]:
    """Where the values of an array lie."""
    if isinstance(array, pa.DictionaryArray):
        return (*_memory(array.indices), *_memory(array.dictionary))
    return (array.offset, len(array), *(None if one is None else one.address for one in array.buffers()))

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

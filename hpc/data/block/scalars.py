"""Python values as scalars of Arrow, without Arrow's look at what they might be: it imports pandas for that."""

from __future__ import annotations

import datetime
from typing import Any

import pyarrow as pa

#: The type that Arrow finds for values of exactly these classes.
TYPES = {
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),
    str: pa.string(),
    bytes: pa.binary(),
    datetime.date: pa.date32(),
}
_LARGE = 1 << 63


def scalar(value: Any) -> Any:
    """The scalar of a plain value, of the type that Arrow gives it anyway. Other values are given back as they are."""
    kind = TYPES.get(type(value))
    if kind is None or (kind is TYPES[int] and not -_LARGE <= value < _LARGE):
        return value
    return pa.scalar(value, kind)


def full_scalar(value: Any) -> pa.Scalar:
    """The scalar of any value."""
    made = scalar(value)
    return made if isinstance(made, pa.Scalar) else pa.scalar(made)

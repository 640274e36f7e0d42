"""What counts as null among the states of aggregates, and how a null state goes with another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa


def is_null(value: Any) -> bool:
    """None, NaN, and nulls of Arrow."""
    if value is None:
        return True
    if isinstance(value, pa.Scalar):
        return not value.is_valid
    return isinstance(value, float) and value != value


def null_safe_combine(combine: Callable[[Any, Any], Any], ignore_nulls: bool) -> Callable[[Any, Any], Any]:
    """`combine` for states that may be null: left out with ignore_nulls, else the result is null."""

    def merge(current: Any, new: Any) -> Any:
        if is_null(current):
            return new if ignore_nulls else current
        if is_null(new):
            return current if ignore_nulls else new
        return combine(current, new)

    return merge

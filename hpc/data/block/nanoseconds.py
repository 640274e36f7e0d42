"""Values of Arrow as Python values, which are those of pandas where they have nanoseconds.

pyarrow makes a Timestamp or Timedelta only where it knows pandas. Else it gives a datetime, or an error for what a
datetime has no room for. It is told of pandas late (`hpc.data.pandas_later`), so pandas is imported here before.
"""

from __future__ import annotations

import contextlib
from functools import cache
from typing import Any

import pyarrow as pa


def bring_pandas(*kinds: pa.DataType) -> None:
    """Import pandas, if it is there and a type has nanoseconds. Values of these types become Python values after it."""
    if any(map(_has_nanoseconds, kinds)):
        _imported()


def python_values(values: pa.Array | pa.ChunkedArray) -> list[Any]:
    """The values of a column."""
    bring_pandas(values.type)
    found: list[Any] = values.to_pylist()
    return found


def python_value(value: pa.Scalar) -> Any:
    """One value."""
    bring_pandas(value.type)
    return value.as_py()


def _has_nanoseconds(kind: pa.DataType) -> bool:
    kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    return "[ns" in str(kind)


@cache
def _imported() -> None:
    """Where another thread imports it just now, this waits until that is done."""
    with contextlib.suppress(ImportError):
        import pandas  # noqa: F401

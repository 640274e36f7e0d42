"""Expressions for filter, with_column and with_columns: `col("price") * 2 > lit(10)`."""

from __future__ import annotations

from typing import Any

from hpc.data.expr.functions import UDFExpr, pyarrow_udf, udf
from hpc.data.expr.kernels import Operation
from hpc.data.expr.lists import ArrayNamespace, ListNamespace, MapNamespace, StructNamespace
from hpc.data.expr.nodes import (
    NAMESPACES,
    AliasExpr,
    BinaryExpr,
    ColumnExpr,
    Expr,
    LiteralExpr,
    PyArrowComputeUDFExpr,
    UnaryExpr,
)
from hpc.data.expr.special import (
    DownloadExpr,
    MonotonicallyIncreasingIdExpr,
    RandomExpr,
    StarExpr,
    UnnestExpr,
    UUIDExpr,
    unnest,
)
from hpc.data.expr.text import StringNamespace
from hpc.data.expr.times import DatetimeNamespace

__all__ = [
    "AliasExpr",
    "BinaryExpr",
    "ColumnExpr",
    "DownloadExpr",
    "Expr",
    "LiteralExpr",
    "MonotonicallyIncreasingIdExpr",
    "Operation",
    "PyArrowComputeUDFExpr",
    "RandomExpr",
    "StarExpr",
    "UDFExpr",
    "UUIDExpr",
    "UnaryExpr",
    "UnnestExpr",
    "col",
    "download",
    "lit",
    "monotonically_increasing_id",
    "pyarrow_udf",
    "random",
    "star",
    "udf",
    "unnest",
    "uuid",
]

NAMESPACES |= {
    "arr": ArrayNamespace,
    "dt": DatetimeNamespace,
    "list": ListNamespace,
    "map": MapNamespace,
    "str": StringNamespace,
    "struct": StructNamespace,
}


def col(name: str) -> ColumnExpr:
    """A column."""
    return ColumnExpr(name)


def lit(value: Any) -> LiteralExpr:
    """One value for all rows."""
    return LiteralExpr(value)


def star() -> StarExpr:
    """All columns of the input."""
    return StarExpr()


def download(uri_column_name: str, *, filesystem: Any = None) -> DownloadExpr:
    """The bytes of the files that a column names; null where a file cannot be read, and the log says why.

    filesystem: one of pyarrow; without it, the scheme of each name says which.
    """
    return DownloadExpr(uri_column_name, filesystem)


def monotonically_increasing_id() -> MonotonicallyIncreasingIdExpr:
    """Integers that no two rows share, and that grow by one within a task; they have gaps between tasks."""
    return MonotonicallyIncreasingIdExpr()


def random(*, seed: int | None = None, reseed_after_execution: bool = True) -> RandomExpr:
    """Random numbers from 0 to 1, without 1.

    seed: the same seed gives the same numbers. With `reseed_after_execution` each run of the dataset has its own.
    """
    return RandomExpr(seed, reseed_after_execution)


def uuid() -> UUIDExpr:
    """A random id (UUID4) for each row."""
    return UUIDExpr()

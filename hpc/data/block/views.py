"""Columns of views (`string_view`, `binary_view`), of which pyarrow can take no values: they are done as plain texts.

Their types stay: what was taken becomes views again. So it is for lists and structs of them.
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar

import pyarrow as pa

A = TypeVar("A", pa.Array, pa.ChunkedArray)


@cache
def plain_type(kind: pa.DataType) -> pa.DataType | None:
    """A type with texts in the place of views; None if it has none."""
    if pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_binary_view(kind):
        return pa.large_binary()
    if pa.types.is_struct(kind):
        made: pa.DataType = pa.struct([_plain(field) for field in kind])
    elif pa.types.is_map(kind):
        made = pa.map_(_plain(kind.key_field), _plain(kind.item_field))
    elif pa.types.is_fixed_size_list(kind):
        made = pa.list_(_plain(kind.value_field), kind.list_size)
    elif pa.types.is_large_list(kind):
        made = pa.large_list(_plain(kind.value_field))
    elif pa.types.is_list(kind):
        made = pa.list_(_plain(kind.value_field))
    else:
        return None
    return None if made.equals(kind) else made


def _plain(field: pa.Field) -> pa.Field:
    kind = plain_type(field.type)
    return field if kind is None else field.with_type(kind)


def plain(array: A) -> A:
    """The same values, and no views."""
    kind = plain_type(array.type)
    return array if kind is None else array.cast(kind)


def plain_table(table: pa.Table) -> pa.Table:
    """The same values, and no views; the table itself if it has none."""
    if all(plain_type(field.type) is None for field in table.schema):
        return table
    return table.cast(pa.schema([_plain(field) for field in table.schema], table.schema.metadata))


def taken_of(column: A, rows: pa.Array) -> A:
    """The values of a column at these rows; null where a row is."""
    kind = plain_type(column.type)
    return column.take(rows) if kind is None else column.cast(kind).take(rows).cast(column.type)


def rows_of(table: pa.Table, rows: pa.Array) -> pa.Table:
    """These rows of a table."""
    found = plain_table(table)
    return table.take(rows) if found is table else found.take(rows).cast(table.schema)


def filtered(table: pa.Table, mask: Any) -> pa.Table:
    """The rows of a table whose mask is true."""
    found = plain_table(table)
    return table.filter(mask) if found is table else found.filter(mask).cast(table.schema)

"""Columns of views (`string_view`, `binary_view`), of which pyarrow can take no values: they are done as plain texts.

Their types stay: what was taken becomes views again. So it is for lists, structs and dictionaries of them. Of lists
that are views themselves (`list_view`) pyarrow takes values, whatever these are, but casts of them go wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

A = TypeVar("A", pa.Array, pa.ChunkedArray)


@cache
def plain_type(kind: pa.DataType) -> pa.DataType | None:
    """A type with texts in the place of views, to which and from which values can be cast; None if it has none."""
    return _without_views(kind, plain_type)


@cache
def parquet_type(kind: pa.DataType) -> pa.DataType | None:
    """The same where dictionaries have views as values, which alone pyarrow does not write to Parquet."""
    if pa.types.is_dictionary(kind):
        return plain_type(kind)
    is_view = pa.types.is_string_view(kind) or pa.types.is_binary_view(kind)
    return None if is_view else _without_views(kind, parquet_type)


def _without_views(kind: pa.DataType, plain_of: Callable[[pa.DataType], pa.DataType | None]) -> pa.DataType | None:
    """A type whose inner types are as a function of them says; None if that is None for all."""
    if pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_binary_view(kind):
        return pa.large_binary()

    def of(field: pa.Field) -> pa.Field:
        made = plain_of(field.type)
        return field if made is None else field.with_type(made)

    if pa.types.is_dictionary(kind):
        values = plain_of(kind.value_type)
        return None if values is None else pa.dictionary(kind.index_type, values, kind.ordered)
    if pa.types.is_struct(kind):
        made: pa.DataType = pa.struct([of(field) for field in kind])
    elif pa.types.is_map(kind):
        made = pa.map_(of(kind.key_field), of(kind.item_field))
    elif pa.types.is_fixed_size_list(kind):
        made = pa.list_(of(kind.value_field), kind.list_size)
    elif pa.types.is_large_list(kind):
        made = pa.large_list(of(kind.value_field))
    elif pa.types.is_list(kind):
        made = pa.list_(of(kind.value_field))
    else:
        return None
    return None if made.equals(kind) else made


def plain(array: A) -> A:
    """The same values, to be looked at, and no views. Lists that are views become lists."""
    if has_list_views(array.type):
        if isinstance(array, pa.Array):
            return _of_lists(array)
        return pa.chunked_array([_of_lists(chunk) for chunk in array.chunks or [none_of(array.type)]])
    kind = plain_type(array.type)
    return array if kind is None else array.cast(kind)


@cache
def has_list_views(kind: pa.DataType) -> bool:
    """Whether a type is of lists that are views, or lists and structs have such lists."""
    if pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
        return True
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return has_list_views(kind.value_type)
    return pa.types.is_struct(kind) and any(has_list_views(field.type) for field in kind)


def _of_lists(array: pa.Array) -> pa.Array:
    """See `plain`. They are not cast: pyarrow 26.0 makes one offset too few of lists that are views."""
    kind, nulls = array.type, array.is_null() if array.null_count else None
    if not has_list_views(kind):
        return plain(array)
    if pa.types.is_struct(kind):
        children = [_of_lists(child) for child in array.flatten()]
        return pa.StructArray.from_arrays(children, [field.name for field in kind], mask=nulls)
    ends = pc.cumulative_sum(pc.fill_null(pc.list_value_length(array), 0).cast(pa.int64()))
    offsets = pa.concat_arrays([pa.array([0], pa.int64()), ends])
    return pa.LargeListArray.from_arrays(offsets, _of_lists(array.flatten()), mask=nulls)


def none_of(kind: pa.DataType) -> pa.Array:
    """No values of a type. Of dictionaries of views pyarrow makes nulls, but no values from Python's."""
    return pa.array([], kind) if isinstance(kind, pa.BaseExtensionType) else pa.nulls(0, kind)


def plain_table(table: pa.Table) -> pa.Table:
    """The same values, and no views; the table itself if it has none."""
    schema = table.schema
    made = with_types(schema, plain_type)
    return table if made is schema else table.cast(made)


def with_types(schema: pa.Schema, type_of: Callable[[pa.DataType], pa.DataType | None]) -> pa.Schema:
    """A schema whose types are as a function of them says, where that is not None; else the schema itself."""
    kinds = [type_of(field.type) for field in schema]
    if all(kind is None for kind in kinds):
        return schema
    fields = [field if kind is None else field.with_type(kind) for field, kind in zip(schema, kinds)]
    return pa.schema(fields, schema.metadata)


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

"""Blocks of several schemas as one table: the one place that says which types go together, and as what."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from hpc.data.block import objects, tensor
from hpc.data.block.bare import is_bare
from hpc.data.block.errors import DataTypeError
from hpc.data.block.nanoseconds import python_values

#: The decimal digits of the largest integers.
DIGITS = 20


class Conflict(Exception):
    """Two types have no common one."""


def unify(schemas: Sequence[pa.Schema], names: Sequence[str] = ()) -> pa.Schema:
    """The schema of rows of all of these, with the metadata that all have. Columns stand in the order in which they
    come up.

    names: for each schema the file or the block that it is of, for errors. Raises DataTypeError for a column whose
    types have no common one; it names the column, both types and where they are.
    """
    first = schemas[0]
    if all(schema.equals(first) for schema in schemas[1:]):
        return first
    kinds: dict[str, pa.DataType] = {}
    seen: dict[str, int] = {}
    for place, schema in enumerate(schemas):
        for field in () if is_bare(schema) else schema:
            known = kinds.get(field.name)
            if known is None:
                kinds[field.name], seen[field.name] = field.type, place
            elif not known.equals(field.type):
                try:
                    kinds[field.name] = common(known, field.type)
                except Conflict:
                    where = [f" in {names[at]}" if at < len(names) else "" for at in (seen[field.name], place)]
                    raise DataTypeError(
                        f"column {field.name!r} is {known}{where[0]} and {field.type}{where[1]}: "
                        "cast it to one type, or read it with a schema"
                    ) from None
    if not kinds:
        return next((schema for schema in schemas if is_bare(schema)), first)
    shared = set.intersection(*({*(schema.metadata or {}).items()} for schema in schemas))
    return pa.schema([pa.field(name, kind) for name, kind in kinds.items()], dict(shared) or None)


def concat(tables: Sequence[pa.Table], names: Sequence[str] = ()) -> pa.Table:
    """One table of the rows of all of these, without a copy of columns whose type stays. Raises as `unify` does."""
    if len(tables) == 1:
        return tables[0]
    known = [table for table in tables if table.num_rows] or [table for table in tables if table.num_columns]
    tables = known or tables[:1]
    schema = unify([table.schema for table in tables], names if len(names) == len(tables) else ())
    return pa.concat_tables([to_schema(table, schema) for table in tables])


def to_schema(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with the columns and types of a schema that `unify` made; what it has not is null."""
    if table.schema.equals(schema):
        return table.replace_schema_metadata(schema.metadata)
    have = {name: place for place, name in enumerate(table.column_names)}
    columns = []
    for field in schema:
        place = have.get(field.name)
        if place is None:
            columns.append(pa.chunked_array([nulls(table.num_rows, field.type)], field.type))
        else:
            columns.append(convert(table.column(place), field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def nulls(count: int, kind: pa.DataType) -> pa.Array:
    """A column of nulls."""
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, pa.nulls(count, kind.storage_type))
    return pa.nulls(count, kind)


def common(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """The type that holds the values of both. Raises Conflict where there is none."""
    if one.equals(other):
        return one
    if pa.types.is_null(one):
        return other
    if pa.types.is_null(other):
        return one
    if objects.is_object(one) or objects.is_object(other):
        return objects.ObjectType()
    if tensor.is_tensor(one) and tensor.is_tensor(other):
        return _common_tensor(one, other)
    if pa.types.is_dictionary(one) or pa.types.is_dictionary(other):
        return _common_dictionary(one, other)
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        return _common_struct(one, other)
    if _is_list(one) and _is_list(other):
        large = pa.types.is_large_list(one) or pa.types.is_large_list(other)
        kind = common(one.value_type, other.value_type)
        return pa.large_list(kind) if large else pa.list_(kind)
    if pa.types.is_map(one) and pa.types.is_map(other):
        return pa.map_(common(one.key_type, other.key_type), common(one.item_type, other.item_type))
    if (_is_exact(one) and pa.types.is_floating(other)) or (_is_exact(other) and pa.types.is_floating(one)):
        return pa.float64()  # With narrow floats the order of blocks would make the type, as Arrow has it.
    if pa.types.is_decimal(one) and pa.types.is_integer(other):
        return _common_decimal(one)
    if pa.types.is_decimal(other) and pa.types.is_integer(one):
        return _common_decimal(other)
    try:
        unified = pa.unify_schemas(
            [pa.schema([pa.field("x", one)]), pa.schema([pa.field("x", other)])], promote_options="permissive"
        )
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        raise Conflict from None
    return unified.field(0).type


def _common_tensor(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    kind = common(tensor.value_type(one), tensor.value_type(other))
    if tensor.is_fixed(one) and tensor.is_fixed(other) and tuple(one.shape) == tuple(other.shape):
        return pa.fixed_shape_tensor(kind, tuple(one.shape))
    return tensor.RaggedTensorType(kind, max(tensor.ndim(one), tensor.ndim(other)))


def _common_dictionary(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    values = [kind.value_type if pa.types.is_dictionary(kind) else kind for kind in (one, other)]
    kind = common(*values)
    if pa.types.is_dictionary(one) and pa.types.is_dictionary(other):
        # The values of both may be more than the indices of one can count.
        large = max(one.index_type.bit_width, other.index_type.bit_width) > 32
        return pa.dictionary(pa.int64() if large else pa.int32(), kind)
    return kind


def wide(array: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """A column whose indices, if it is a dictionary, have 32 bits at least.

    Blocks of one column have other values in their dictionaries, and all together must be counted.
    """
    kind = array.type
    if not pa.types.is_dictionary(kind) or kind.index_type.bit_width >= 32:
        return array
    if isinstance(array, pa.ChunkedArray):
        return pa.chunked_array(
            [wide(chunk) for chunk in array.chunks], pa.dictionary(pa.int32(), kind.value_type, kind.ordered)
        )
    return pa.DictionaryArray.from_arrays(array.indices.cast(pa.int32()), array.dictionary, ordered=kind.ordered)


def _common_decimal(decimal: pa.DataType) -> pa.DataType:
    """The decimal that holds all integers, too: of any width, so that the order of blocks does not make the type."""
    scale = max(0, decimal.scale)
    precision = max(decimal.precision - decimal.scale, DIGITS) + scale
    if precision > 76:
        raise Conflict
    large = precision > 38 or pa.types.is_decimal256(decimal)
    return pa.decimal256(precision, scale) if large else pa.decimal128(precision, scale)


def _common_struct(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    kinds = {field.name: field.type for field in one}
    for field in other:
        kinds[field.name] = common(kinds[field.name], field.type) if field.name in kinds else field.type
    return pa.struct([pa.field(name, kind) for name, kind in kinds.items()])


def _is_exact(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_decimal(kind)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def convert(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """A column as one of a type that `common` gave for its own type and another."""
    if column.type.equals(kind):
        return column
    return pa.chunked_array([_convert(chunk, kind) for chunk in column.chunks], kind)


def _convert(array: pa.Array, kind: pa.DataType) -> pa.Array:
    if array.type.equals(kind):
        return array
    if pa.types.is_null(array.type):
        return nulls(len(array), kind)
    if objects.is_object(kind):
        return objects.from_cells(python_values(array))
    if tensor.is_tensor(kind):
        return tensor.convert(array, kind)
    if pa.types.is_struct(kind):
        have = {field.name: place for place, field in enumerate(array.type)}
        fields = [
            _convert(array.field(have[field.name]), field.type) if field.name in have else nulls(len(array), field.type)
            for field in kind
        ]
        mask = array.is_null() if array.null_count else None
        return pa.StructArray.from_arrays(fields, fields=list(kind), mask=mask)
    if _is_list(kind) and _is_list(array.type):
        return _convert_list(array, kind)
    if pa.types.is_dictionary(array.type):
        if not len(array.dictionary):
            # Below a struct that is null Arrow leaves an index without a value.
            return nulls(len(array), kind)
        if not pa.types.is_dictionary(kind):
            return array.dictionary_decode().cast(kind)
        indices, values = array.indices.cast(kind.index_type), _convert(array.dictionary, kind.value_type)
        return pa.DictionaryArray.from_arrays(indices, values, ordered=kind.ordered)
    return array.cast(kind)


def _convert_list(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Of lists: their values are converted, and the ends of the lists stay."""
    if pa.types.is_fixed_size_list(array.type):
        array = array.cast(pa.list_(array.type.value_type))
    values = _convert(array.values, kind.value_type)
    # Arrow takes no ends of a slice beside a mask.
    offsets = pa.array(array.offsets.to_numpy())
    mask = array.is_null() if array.null_count else None
    if pa.types.is_large_list(kind):
        return pa.LargeListArray.from_arrays(offsets.cast(pa.int64()), values, type=kind, mask=mask)
    return pa.ListArray.from_arrays(offsets, values, type=kind, mask=mask)

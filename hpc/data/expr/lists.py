"""Functions of nested columns: `col("x").list`, `.struct`, `.map` and `.arr`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hpc.data.datatype import DataType
from hpc.data.expr.base import Node, Run
from hpc.data.expr.nodes import Expr, compute


@dataclass(frozen=True, eq=False, repr=False)
class NestedExpr(Expr):
    """A function of this file on the arrays of a column."""

    function: str
    expr: Expr
    options: tuple[Any, ...] = ()

    def children(self) -> tuple[Node, ...]:
        return (self.expr,)

    def with_children(self, children: tuple[Any, ...]) -> Node:
        return NestedExpr(self.function, children[0], self.options)

    def key(self) -> Any:
        return (self.function, self.options)

    def label(self) -> str:
        return f"UDF({self.function})"

    def labels(self) -> tuple[str, ...]:
        return ("arg[0]",)

    def value(self, table: pa.Table, run: Run) -> Any:
        found = self.expr.evaluate(table, run)
        array = found if isinstance(found, pa.Array) else found.combine_chunks()
        return FUNCTIONS[self.function](array, *self.options)


class ListNamespace:
    """Functions of lists."""

    def __init__(self, expr: Expr) -> None:
        self._expr = expr

    def len(self) -> Expr:
        """The number of elements."""
        return compute("list_value_length", self._expr, kind=DataType.int32())

    def __getitem__(self, key: int | slice) -> Expr:
        """The element at a place, or the elements of a slice. Raises TypeError for another key."""
        if isinstance(key, slice):
            return self.slice(key.start, key.stop, key.step)
        if not isinstance(key, int):
            raise TypeError(f"List indices must be integers or slices, not {type(key).__name__}")
        return self.get(key)

    def get(self, index: int) -> Expr:
        """The element at a place, from 0. A list that is shorter is an error when the expression is evaluated."""
        return compute("list_element", self._expr, index)

    def slice(self, start: int | None = None, stop: int | None = None, step: int | None = None) -> Expr:
        """The elements from start to stop, each step-th."""
        first, each = 0 if start is None else start, 1 if step is None else step
        return compute("list_slice", self._expr, kind=self._expr.data_type, start=first, stop=stop, step=each)

    def sort(
        self,
        order: Literal["ascending", "descending"] = "ascending",
        null_placement: Literal["at_start", "at_end"] = "at_end",
    ) -> Expr:
        """The elements of each list in order. Raises ValueError for another order or placement."""
        if order not in ("ascending", "descending"):
            raise ValueError(f"order must be either 'ascending' or 'descending', got {order!r}")
        if null_placement not in ("at_start", "at_end"):
            raise ValueError(f"null_placement must be 'at_start' or 'at_end', got {null_placement!r}")
        return NestedExpr("list_sort", self._expr, (order, null_placement))

    def flatten(self) -> Expr:
        """The elements of the lists in each list."""
        return NestedExpr("list_flatten", self._expr)


class StructNamespace:
    """The fields of structs."""

    def __init__(self, expr: Expr) -> None:
        self._expr = expr

    def __getitem__(self, key: str | int) -> Expr:
        """The field of a name, or at a place. Raises TypeError for another key."""
        if isinstance(key, str):
            return self.field(key)
        if isinstance(key, int) and not isinstance(key, bool):
            return self.field_by_index(key)
        raise TypeError(f"Struct indices must be strings or integers, not {type(key).__name__}")

    def field(self, field_name: str) -> Expr:
        """The field of a name."""
        return compute("struct_field", self._expr, field_name)

    def field_by_index(self, index: int) -> Expr:
        """The field at a place, from 0. Raises TypeError and ValueError for what is no place."""
        if not isinstance(index, int) or isinstance(index, bool):
            raise TypeError(f"Struct field index must be an integer, not {type(index).__name__}")
        if index < 0:
            raise ValueError(f"Struct field index must be non-negative, got {index}")
        return compute("struct_field", self._expr, index)


class MapNamespace:
    """The keys and values of maps, and of lists of structs with two fields."""

    def __init__(self, expr: Expr) -> None:
        self._expr = expr

    def keys(self) -> Expr:
        """A list of the keys."""
        return NestedExpr("map_keys", self._expr)

    def values(self) -> Expr:
        """A list of the values."""
        return NestedExpr("map_values", self._expr)


class ArrayNamespace:
    """Functions of arrays of one length."""

    def __init__(self, expr: Expr) -> None:
        self._expr = expr

    def to_list(self) -> Expr:
        """The same as lists."""
        return NestedExpr("to_list", self._expr)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _lists(lengths: np.ndarray, values: pa.Array, like: pa.Array) -> pa.Array:
    """Lists of these lengths, null where `like` is."""
    large = pa.types.is_large_list(like.type)
    ends = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    mask = like.is_null() if like.null_count else None
    if large:
        return pa.LargeListArray.from_arrays(pa.array(ends), values, mask=mask)
    return pa.ListArray.from_arrays(pa.array(ends.astype(np.int32)), values, mask=mask)


def _lengths(array: pa.Array) -> np.ndarray:
    return pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)


def to_list(array: pa.Array) -> pa.Array:
    """Lists of one length as lists. Raises ArrowInvalid for what are no lists."""
    kind = array.type
    if not _is_list(kind):
        raise pa.ArrowInvalid(f"to_list() can only be called on list-like columns, but got {kind}")
    return array.cast(pa.list_(kind.value_type)) if pa.types.is_fixed_size_list(kind) else array


def list_sort(array: pa.Array, order: str, null_placement: str) -> pa.Array:
    """The elements of each list in order: all are sorted at once, then by their list. Raises TypeError for no lists."""
    kind = array.type
    if not _is_list(kind):
        raise TypeError(f"list.sort() requires a list column, and this is {kind}")
    lists = to_list(array)
    lengths, values = _lengths(lists), pc.list_flatten(lists)
    owners = np.repeat(np.arange(len(lists), dtype=np.int64), lengths)
    order_of = pc.array_sort_indices(values, order, null_placement=null_placement).to_numpy()
    by_list = np.argsort(owners[order_of], kind="stable")
    ordered = _lists(lengths, values.take(pa.array(order_of[by_list])), lists)
    if pa.types.is_fixed_size_list(kind):
        return _fixed(ordered, kind)
    return ordered


def _fixed(lists: pa.Array, kind: pa.DataType) -> pa.Array:
    """Lists of one length, null where the list is."""
    if not lists.null_count:
        return lists.cast(kind)
    valid = np.asarray(lists.is_valid())
    places = np.where(np.repeat(valid, kind.list_size), np.cumsum(np.repeat(valid, kind.list_size)) - 1, 0)
    values = pc.list_flatten(lists)
    filled = values.take(pa.array(places)) if len(values) else pa.nulls(len(places), values.type)
    return pa.FixedSizeListArray.from_arrays(filled, type=kind, mask=lists.is_null())


def list_flatten(array: pa.Array) -> pa.Array:
    """The elements of the lists in each list. Raises TypeError for what are no lists of lists."""
    kind = array.type
    if not _is_list(kind) or not _is_list(kind.value_type):
        raise TypeError(f"list.flatten() requires a list column whose elements are also lists, and this is {kind}")
    lists = to_list(array)
    outer, inner = _lengths(lists), pc.list_flatten(lists)
    reach = np.concatenate([[0], np.cumsum(_lengths(inner), dtype=np.int64)])
    ends = np.concatenate([[0], np.cumsum(outer, dtype=np.int64)])
    return _lists(np.diff(reach[ends]), pc.list_flatten(inner), lists)


def map_keys(array: pa.Array) -> pa.Array:
    """The keys of maps."""
    return _map_part(array, 0, "keys")


def map_values(array: pa.Array) -> pa.Array:
    """The values of maps."""
    return _map_part(array, 1, "values")


def _map_part(array: pa.Array, place: int, word: str) -> pa.Array:
    kind = array.type
    if pa.types.is_map(kind):
        values = array.items if place else array.keys
    elif (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and pa.types.is_struct(kind.value_type):
        if kind.value_type.num_fields < 2:
            raise TypeError(f".map.{word}() needs structs of a key and a value, and this is {kind}")
        values = array.values.field(place)
    elif array.null_count == len(array):
        return pa.nulls(len(array), pa.list_(pa.null()))
    else:
        raise TypeError(f"Expression is not a valid map type: .map.{word}() needs maps, and this is {kind}")
    ends = array.offsets
    first, last = ends[0].as_py(), ends[-1].as_py()
    return _lists(np.diff(ends.to_numpy()), values.slice(first, last - first), array)


FUNCTIONS: dict[str, Callable[..., pa.Array]] = {
    "list_flatten": list_flatten,
    "list_sort": list_sort,
    "map_keys": map_keys,
    "map_values": map_values,
    "to_list": to_list,
}

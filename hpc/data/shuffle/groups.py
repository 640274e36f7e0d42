"""Rows in groups: one number per row for the group that it is of, and what is done with many groups at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from hpc.data.block.codes import codes_of_rows, first_rows, plain_floats, stable_order, whole
from hpc.data.block.flat import to_numpy
from hpc.data.block.views import plain
from hpc.data.shuffle import dense, gather
from hpc.data.shuffle.kernel import Kernel


@dataclass(frozen=True)
class ByRows:
    """All states of an aggregate, computed from the numbers of the groups of all rows."""

    states: Callable[[Groups], list[pa.Array]]


States = list[Kernel] | ByRows


class Groups:
    """The rows of a table by the values of its keys; no keys: all rows are one group.

    Groups are in the order in which they first appear. Null is a key as others, all NaN are one key, -0.0 is 0.0.
    """

    def __init__(self, table: pa.Table, keys: Sequence[str]) -> None:
        self.table = with_plain_floats(table, keys)
        self.keys = list(keys)

    @cached_property
    def _numbered(self) -> tuple[np.ndarray, int]:
        if not self.keys:
            return np.zeros(self.table.num_rows, np.int64), 1
        return codes_of_rows([self.table.column(name) for name in self.keys])

    @property
    def ids(self) -> np.ndarray:
        """The group of each row, int64."""
        return self._numbered[0]

    @property
    def count(self) -> int:
        """The number of groups."""
        return self._numbered[1]

    @cached_property
    def first(self) -> np.ndarray:
        """The first row of each group."""
        return first_rows(self.ids, self.count)

    @cached_property
    def order(self) -> np.ndarray:
        """The rows sorted by group, in the order they had within each."""
        return stable_order(self.ids, self.count)

    @cached_property
    def sizes(self) -> np.ndarray:
        """The number of rows of each group."""
        return np.bincount(self.ids, minlength=self.count)

    def key_columns(self) -> list[pa.Array]:
        """The value of each key for each group."""
        return [whole(gather.take_column(self.table.column(name), self.first)) for name in self.keys]

    def collect(self, values: pa.Array | pa.ChunkedArray, rows: np.ndarray | None = None) -> pa.Array:
        """The values of each group as a list; of these rows alone where they are given."""
        chunked = values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([values], values.type)
        if rows is None:
            order, sizes = self.order, self.sizes
        else:
            ids = self.ids[rows]
            order = rows[stable_order(ids, self.count)]
            sizes = np.bincount(ids, minlength=self.count)
        taken = whole(gather.take_column(chunked, order))
        return pa.ListArray.from_arrays(pa.array(offsets_of(sizes), pa.int32()), taken)


def compute(groups: Groups, wanted: Sequence[States]) -> tuple[list[pa.Array], list[list[pa.Array]]]:
    """The key columns and the states of each aggregate, with one group-by for all that Arrow computes."""
    kernels = [kernel for states in wanted if isinstance(states, list) for kernel in states]
    by_rows = any(isinstance(states, ByRows) for states in wanted)
    # A sum and a mean of one column have a sum in common: it is computed once.
    names = [kernel.identity for kernel in kernels]
    once = dict(zip(names, kernels))
    keys, columns = _group_by(groups, list(once.values()), by_rows)
    found = dict(zip(once, columns))
    taken = iter([found[name] for name in names])
    result = [
        states.states(groups) if isinstance(states, ByRows) else [next(taken) for _ in states] for states in wanted
    ]
    return keys, result


def _group_by(groups: Groups, kernels: list[Kernel], numbered: bool) -> tuple[list[pa.Array], list[pa.Array]]:
    """Arrow's group-by over the keys; over the numbers of the groups where those are computed anyway."""
    if not kernels and (numbered or groups.keys):
        return groups.key_columns(), []
    columns: dict[str, Any]
    if not groups.keys:
        columns, names = {}, []
    elif numbered or any(not _is_key(groups.table.column(name)) for name in groups.keys):
        numbered = True
        columns, names = {"g": groups.ids}, ["g"]
    else:
        columns = {f"k{number}": groups.table.column(name) for number, name in enumerate(groups.keys)}
        names = list(columns)
    wanted: list[Any] = []
    for number, kernel in enumerate(kernels):
        columns[f"v{number}"] = _aggregable(kernel.array)
        wanted.append((f"v{number}", kernel.function, kernel.options))
    if len(names) == 1 and not numbered and (placed := dense.group_by(columns[names[0]], kernels)) is not None:
        return [placed[0]], placed[1]
    table = pa.table(columns)
    done = aggregated(table.unify_dictionaries(), names, wanted)
    states = [
        _like(whole(done.column(f"v{number}_{kernel.function}")), kernel) for number, kernel in enumerate(kernels)
    ]
    if numbered or not groups.keys:
        return groups.key_columns(), states
    return [_without_garbage(whole(done.column(name))) for name in names], states


def aggregated(table: pa.Table, keys: list[str], wanted: Sequence[tuple[str, str, Any]]) -> pa.Table:
    """Arrow's group-by: (column, function, options) as `Table.group_by` takes them, and names the results.

    That imports all of `pyarrow.dataset`, and pandas with it, which takes as long as to group ten million rows."""
    try:
        from pyarrow import _acero as acero
    except ImportError:
        return table.group_by(keys, use_threads=False).aggregate(list(wanted))
    hashed = "hash_" if keys else ""
    calls = [([column], f"{hashed}{function}", options, f"{column}_{function}") for column, function, options in wanted]
    source = acero.Declaration("table_source", acero.TableSourceNodeOptions(table))
    step = acero.Declaration("aggregate", acero.AggregateNodeOptions(calls, keys=keys))
    return acero.Declaration.from_sequence([source, step]).to_table(use_threads=False)


def _without_garbage(keys: pa.Array) -> pa.Array:
    """The same keys. Where one of a dictionary is null, Arrow's group-by leaves any number as its index. It reads
    beside the dictionary when it brings several of these together."""
    if not pa.types.is_dictionary(keys.type) or not keys.null_count:
        return keys
    places = to_numpy(keys.indices.fill_null(0))
    return pa.DictionaryArray.from_arrays(
        pa.array(places, mask=to_numpy(keys.indices.is_null())), keys.dictionary, ordered=keys.type.ordered
    )


def _aggregable(array: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Arrow's group-by knows no column of type null: one of nulls of another type stands for it."""
    return array.cast(pa.int64()) if pa.types.is_null(array.type) else array


def _like(result: pa.Array, kernel: Kernel) -> pa.Array:
    if pa.types.is_null(kernel.array.type) and kernel.function in ("sum", "min", "max"):
        return pa.nulls(len(result))
    return result


def _is_key(column: pa.ChunkedArray) -> bool:
    """Whether Arrow's group-by takes such a column as key. It tells the values of dictionaries apart by their numbers,
    so that each value must have one, and null and -0.0 none."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _is_key_type(kind.value_type) and not pa.types.is_floating(kind.value_type) and _are_once(column)
    return _is_key_type(kind)


def _is_key_type(kind: pa.DataType) -> bool:
    return not (pa.types.is_nested(kind) or pa.types.is_null(kind) or isinstance(kind, pa.BaseExtensionType))


def _are_once(column: pa.ChunkedArray) -> bool:
    """Whether each value of the dictionaries of a column is there once in each, and none is null."""
    known: pa.Array | None = None
    for chunk in column.chunks:
        values = chunk.dictionary
        if known is not None and values.equals(known):
            continue
        known = values
        if values.null_count or len(plain(values).dictionary_encode().dictionary) < len(values):
            return False
    return True


def with_plain_floats(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """The table, in whose columns of these names floats are as groups see them."""
    for name in names:
        kind = table.schema.field(name).type
        if pa.types.is_floating(kind) and table.num_rows:
            column = pa.chunked_array([plain_floats(chunk) for chunk in table.column(name).chunks], kind)
            table = table.set_column(table.schema.get_field_index(name), table.schema.field(name), column)
    return table


def offsets_of(sizes: np.ndarray) -> np.ndarray:
    offsets = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=offsets[1:])
    return offsets

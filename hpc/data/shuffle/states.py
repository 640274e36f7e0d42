"""The states of aggregates: how they are computed for the rows of a task, merged, and made results of."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hpc.data.block.codes import codes, first_rows, whole
from hpc.data.block.flat import to_numpy
from hpc.data.block.nanoseconds import bring_pandas, python_value, python_values
from hpc.data.block.views import plain, taken_of
from hpc.data.shuffle import gather
from hpc.data.shuffle.groups import ByRows, Groups, States, offsets_of
from hpc.data.shuffle.kernel import Kernel

# An aggregate, as `hpc.data.aggregate` has them.
Fn: TypeAlias = Any

# An array or a chunked array.
Column: TypeAlias = Any

FROM_ZERO = pc.ScalarAggregateOptions(skip_nulls=True, min_count=0)


def no_column(name: str, names: Sequence[str]) -> str:
    """What is wrong with a column that is not there."""
    return f"there is no column {name!r}: the columns are {list(names)}"


# ---------------------------------------------------------------- numbers


def numbers(values: Column, what: str) -> Column:
    """The values, if they are numbers; else TypeError that names the aggregate. Booleans count as 0 and 1."""
    kind = values.type
    if pa.types.is_boolean(kind):
        return pc.cast(values, pa.int64())
    known = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if known or pa.types.is_null(kind) or pa.types.is_duration(kind):
        return values
    raise TypeError(f"{what}: values of type {kind} are no numbers")


def floats(values: Column) -> Column:
    return pc.cast(values, pa.float64(), safe=False)


def summable(values: Column) -> Column:
    """The values, as floats where the sum of integers could be too large for 64 bits."""
    return floats(values) if pa.types.is_integer(values.type) and values.type.bit_width >= 32 else values


def absolute(values: Column) -> Column:
    """The absolute values, of a type that holds them."""
    if pa.types.is_null(values.type):
        return values
    return pc.abs(values)


def extreme(values: Column, function: str, options: Any, what: str) -> States:
    """The least or the largest value by Arrow; values of other types have no order."""
    values = plain(values)
    kind = values.type
    if pa.types.is_dictionary(kind):
        values = values.cast(values.type.value_type)
    elif pa.types.is_nested(kind) or isinstance(kind, pa.BaseExtensionType):
        raise TypeError(f"{what}: values of type {kind} have no order")
    return [Kernel(values, function, options)]


def count(values: Column, ignore_nulls: bool) -> Kernel:
    """How many values there are."""
    if ignore_nulls and pa.types.is_null(values.type):
        return Kernel(pa.array(np.zeros(len(values), np.int64)), "sum", FROM_ZERO)
    if isinstance(values.type, pa.BaseExtensionType) or pa.types.is_nested(values.type):
        values = pc.is_null(values).cast(pa.int64()) if not ignore_nulls else _ones_where_valid(values)
    return Kernel(values, "count", pc.CountOptions(mode="only_valid" if ignore_nulls else "all"))


def rows_of(table: pa.Table) -> Kernel:
    """How many rows there are, of a table with columns."""
    return Kernel(pa.array(np.zeros(table.num_rows, np.int8)), "count", pc.CountOptions(mode="all"))


def total(counts: Column) -> Kernel:
    """The sum of counts: 0 where there are none."""
    return Kernel(counts, "sum", FROM_ZERO)


def _ones_where_valid(values: Column) -> Column:
    valid = pc.is_valid(values)
    return pc.if_else(valid, pa.scalar(1, pa.int64()), pa.scalar(None, pa.int64()))


def ratio(sums: pa.Array, counts: pa.Array) -> pa.Array:
    """Sum by count, float64; null where the count is 0 or the sum is null."""
    none = pc.equal(counts, pa.scalar(0, pa.int64()))
    some = pc.if_else(none, pa.scalar(None, pa.int64()), counts)
    if pa.types.is_duration(sums.type):
        return pc.divide(sums.cast(pa.int64()), some).cast(sums.type)
    return pc.divide(floats(sums), floats(some))


def merge_variances(groups: Groups, states: list[Column], ignore_nulls: bool) -> list[pa.Array]:
    """Variance, mean and count of groups from those of their parts."""
    part = [to_numpy(floats(whole(state)).fill_null(0.0)) for state in states]
    variances, means, counts = part
    ids, size = groups.ids, groups.count
    counted = np.bincount(ids, counts, size)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(ids, means * counts, size) / counted
        away = np.where(counts > 0, means - mean[ids], 0.0)
        variance = np.bincount(ids, (variances + away * away) * counts, size) / counted
    unknown = counted == 0
    if not ignore_nulls:
        nulls = to_numpy(pc.is_null(whole(states[1])))
        unknown |= np.bincount(ids, nulls, size) > 0
    return [
        pa.array(variance, mask=unknown),
        pa.array(mean, mask=unknown),
        pa.array(counted.astype(np.int64)),
    ]


def deviation(states: list[pa.Array], ddof: int) -> pa.Array:
    """The standard deviation: null where the variance is, NaN where there are too few values."""
    variances, _, counts = states
    of = to_numpy(counts).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        result = np.sqrt(to_numpy(variances.fill_null(0.0)) * of / (of - ddof))
    result[of - ddof <= 0] = np.nan
    return pa.array(result, mask=to_numpy(variances.is_null()))


# ---------------------------------------------------------------- lists of values


def rows_without_nulls(values: Column) -> np.ndarray:
    return np.flatnonzero(to_numpy(pc.is_valid(whole(values))))


def merge_lists(groups: Groups, lists: Column) -> pa.Array:
    """The lists of each group, one after the other."""
    ids, items = _items(groups.ids, whole(lists))
    return _lists(ids, groups.count, items)


def _items(ids: np.ndarray, lists: pa.Array) -> tuple[np.ndarray, pa.Array]:
    """The items of all lists, and the group of each."""
    return np.repeat(ids, to_numpy(pc.fill_null(pc.list_value_length(lists), 0))), lists.flatten()


def _lists(ids: np.ndarray, count: int, items: pa.Array) -> pa.Array:
    numbered = Groups(pa.table({"g": ids}), [])
    numbered.__dict__["_numbered"] = (ids, count)
    return numbered.collect(items)


def quantile(lists: pa.Array, q: float, ignore_nulls: bool) -> pa.Array:
    """Of each list of numbers, by the distance between the two values next to it."""
    if not 0 <= q <= 1:
        raise ValueError(f"a quantile is between 0 and 1, and {q} is not")
    ids, items = _items(np.arange(len(lists)), lists)
    found = floats(items)
    nulls = to_numpy(pc.is_null(found))
    values = to_numpy(found.fill_null(float("nan")))
    kept = ~np.isnan(values)
    order = np.flatnonzero(kept)
    order = order[np.argsort(values[order], kind="stable")]
    order = order[np.argsort(ids[order], kind="stable")]
    sizes = np.bincount(ids[order], minlength=len(lists))
    none = sizes == 0
    ordered = values[order]
    place = offsets_of(sizes)[:-1] + q * np.maximum(sizes - 1, 0)
    low = np.floor(place).astype(np.int64)
    last = max(0, len(ordered) - 1)
    below, above = np.minimum(low, last), np.minimum(np.ceil(place).astype(np.int64), last)
    padded = ordered if len(ordered) else np.zeros(1)
    part = place - low
    with np.errstate(invalid="ignore"):
        result = np.where(part == 0, padded[below], padded[below] * (1 - part) + padded[above] * part)
    if not ignore_nulls:
        none |= np.bincount(ids[nulls], minlength=len(lists)) > 0
    return pa.array(result, mask=none)


def distinct(groups: Groups, values: Column, ignore_nulls: bool, lists: str) -> pa.Array:
    """Each value of a group once, in the order of first appearance, as a list."""
    ids, array = groups.ids, whole(values)
    if lists and (pa.types.is_list(array.type) or pa.types.is_large_list(array.type)):
        if lists == "HASH":
            from hpc.data.shuffle.partition import hash_array

            hashes = pa.array(hash_array(array).view(np.int64))
            array = pc.if_else(pc.is_valid(array), hashes, pa.scalar(None, pa.int64()))
        else:
            ids, array = _items(ids, array)
    if ignore_nulls and array.null_count:
        rows = rows_without_nulls(array)
        ids, array = ids[rows], whole(gather.take_column(pa.chunked_array([array]), rows))
    rows = _first_of_each(ids, array)[0]
    return _lists(ids[rows], groups.count, whole(gather.take_column(pa.chunked_array([array]), rows)))


def _first_of_each(ids: np.ndarray, values: pa.Array) -> tuple[np.ndarray, np.ndarray, int]:
    """The first row of each pair of group and value; the pair of each row; how many pairs there are."""
    numbered, size = codes(values)
    pairs, count = codes(pa.array(ids * max(1, size) + numbered))
    return first_rows(pairs, count), pairs, count


def value_counts(
    groups: Groups, values: Column, counts: np.ndarray | None, ids: np.ndarray | None = None
) -> list[pa.Array]:
    """Two lists for each group: its values, and how often each is there (or the sums of `counts`)."""
    ids, array = groups.ids if ids is None else ids, whole(values)
    rows, pairs, count = _first_of_each(ids, array)
    often = np.bincount(pairs, counts, count).astype(np.int64)
    firsts = whole(gather.take_column(pa.chunked_array([array]), rows))
    return [_lists(ids[rows], groups.count, firsts), _lists(ids[rows], groups.count, pa.array(often))]


def merge_value_counts(groups: Groups, states: list[Column]) -> list[pa.Array]:
    ids, values = _items(groups.ids, whole(states[0]))
    counts = to_numpy(whole(states[1]).flatten())
    return value_counts(groups, values, counts, ids)


# ---------------------------------------------------------------- any aggregate; those of users group by group


def partial(fn: Fn, table: pa.Table) -> States:
    """The states of the groups of a table."""
    return ByRows(lambda groups: [custom_partial(fn, groups)]) if fn._by_group else fn._partial(table)


def merge(fn: Fn, states: list[Column]) -> States:
    """The states of groups, of which these are states for some of their rows."""
    return ByRows(lambda groups: [custom_merge(fn, groups, states[0])]) if fn._by_group else fn._merge(states)


def finish(fn: Fn, states: list[pa.Array]) -> pa.Array:
    """The results of groups."""
    return custom_finish(fn, states[0]) if fn._by_group else fn._finish(states)


def custom_partial(fn: Fn, groups: Groups) -> pa.Array:
    """The pickled state of each group."""
    if groups.keys:
        table = gather.take(groups.table, groups.order)
        keys = list(zip(*map(python_values, groups.key_columns())))
    else:
        table, keys = groups.table, [()]
    bring_pandas(*table.schema.types)
    starts = offsets_of(groups.sizes)
    found = []
    for number, key in enumerate(keys):
        state = fn.init(key[0] if len(key) == 1 else key or None)
        rows = table.slice(int(starts[number]), int(groups.sizes[number]))
        if rows.num_rows:
            state = fn.accumulate_block(state, rows)
        found.append(_dumped(state))
    return pa.array(found, pa.large_binary())


def custom_merge(fn: Fn, groups: Groups, states: Column) -> pa.Array:
    """The states of each group folded into one, in the order of the rows."""
    merged: dict[int, Any] = {}
    for group, text in zip(groups.ids.tolist(), whole(states).to_pylist()):
        state = pickle.loads(text)
        merged[group] = fn.merge(merged[group], state) if group in merged else state
    if not groups.keys and not merged:
        merged[0] = fn.init(None)
    return pa.array([_dumped(merged[group]) for group in range(len(merged))], pa.large_binary())


def custom_finish(fn: Fn, states: Column) -> pa.Array:
    """The result of each group as a column."""
    from hpc.data.block.build import column

    return column([_plain(fn.finalize(pickle.loads(text))) for text in whole(states).to_pylist()])


def _dumped(state: Any) -> bytes:
    from hpc import cloudpickle

    return cloudpickle.dumps(_plain(state))


def _plain(value: Any) -> Any:
    """A Python value for what Arrow and numpy give as one."""
    if isinstance(value, (pa.Scalar, pa.Array, pa.ChunkedArray)):
        return python_value(value) if isinstance(value, pa.Scalar) else python_values(value)
    return value.item() if isinstance(value, np.generic) else value


# ---------------------------------------------------------------- sketches


@cache
def _datasketches() -> Any:
    import datasketches

    return datasketches


def datasketches(what: str) -> Any:
    """The package, or ImportError that says how to get it."""
    try:
        return _datasketches()
    except ImportError:
        raise ImportError(f"{what} needs the package datasketches: pip install datasketches") from None


def counted_texts(values: Column, items: bool) -> Iterator[tuple[str, int]]:
    """Each value that is not null as a text, and how often it is there."""
    array = whole(values)
    if items and (pa.types.is_list(array.type) or pa.types.is_large_list(array.type)):
        array = array.flatten()
    array = array.drop_null()
    ids, size = codes(array)
    firsts = python_values(taken_of(array, pa.array(first_rows(ids, size))))
    for value, often in zip(firsts, np.bincount(ids, minlength=size).tolist()):
        yield pickle.dumps(value).hex(), often


def value_of_text(text: str) -> Any:
    return pickle.loads(bytes.fromhex(text))

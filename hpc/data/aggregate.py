"""Aggregates: what becomes of the values of a group. `hpc.data.aggregate`, with the names of Ray Data.

An aggregate has states: map tasks compute them for their rows, reduce tasks merge those of one group and finish them.
The aggregates of this module do that for all groups at once, in Arrow and numpy. Those that users write
(`AggregateFnV2`, `AggregateFn`) are called for each group.
"""

from __future__ import annotations

import enum
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hpc.data.block.nanoseconds import python_value
from hpc.data.shuffle import states as st
from hpc.data.shuffle.groups import ByRows, Groups, States, compute
from hpc.data.shuffle.kernel import Kernel
from hpc.data.shuffle.nulls import is_null, null_safe_combine

__all__ = [
    "AbsMax", "AggregateFn", "AggregateFnV2", "ApproximateQuantile", "ApproximateTopK", "AsList", "Count",
    "CountDistinct", "Max", "Mean", "Min", "MissingValuePercentage", "Quantile", "Std", "Sum", "Unique",
    "ValueCounter", "ZeroPercentage",
]  # fmt: skip


class AggregateFn:
    """An aggregate from functions; `AggregateFnV2` is the newer way.

    init: gives the state of a group from its key, before any row.
    merge: one state from two.
    name: of the column of the result.
    accumulate_row, accumulate_block: a state, and a row (dict) or a table of rows of the group, to the next state.
    Exactly one of the two is given.
    finalize: the result from the last state; the state itself where it is not given.
    """

    def __init__(
        self,
        init: Callable[[Any], Any],
        merge: Callable[[Any, Any], Any],
        name: str,
        accumulate_row: Callable[[Any, dict[str, Any]], Any] | None = None,
        accumulate_block: Callable[[Any, pa.Table], Any] | None = None,
        finalize: Callable[[Any], Any] | None = None,
    ) -> None:
        if (accumulate_row is None) == (accumulate_block is None):
            raise ValueError("an aggregate takes exactly one of accumulate_row and accumulate_block")
        if not isinstance(name, str):
            raise TypeError(f"the name of an aggregate is a string, not {name!r}")
        self.name = name
        self.init = init
        self.merge = merge
        self.accumulate_block = accumulate_block or _by_row(accumulate_row)
        self.finalize = finalize or _as_it_is

    # Whether its public methods are called for each group, instead of its own for all groups at once.
    _by_group = True

    def _check(self, names: list[str]) -> None:
        """Raise ValueError if a column that the aggregate wants is not there."""


def _by_row(accumulate: Any) -> Callable[[Any, pa.Table], Any]:
    def accumulate_block(state: Any, block: pa.Table) -> Any:
        from hpc.data.block.batch import rows

        for row in rows(block):
            state = accumulate(state, row)
        return state

    return accumulate_block


def _as_it_is(state: Any) -> Any:
    return state


class AggregateFnV2(AggregateFn, ABC):
    """Base class of aggregates: `aggregate_block` for the rows of a group, `combine` for two states, `finalize`.

    name: of the column of the result.
    zero_factory: makes the state before any row.
    on: the column, or None for the whole row.
    ignore_nulls: states that are null do not count. Otherwise a null state makes the result null.
    """

    def __init__(self, name: str, zero_factory: Callable[[], Any], *, on: str | None, ignore_nulls: bool) -> None:
        if not name:
            raise ValueError(f"an aggregate needs a name, and {name!r} is none")
        self._target_col_name = on
        self._ignore_nulls = ignore_nulls
        found = re.match(r"^([^(]+)(?:\(.*\))?$", name)
        self._agg_name = found.group(1) if found else name
        final = self.finalize
        super().__init__(
            init=lambda key: None if ignore_nulls else zero_factory(),
            merge=null_safe_combine(self.combine, ignore_nulls),
            name=name,
            accumulate_block=lambda state, block: self.aggregate_block(block),
            finalize=lambda state: state if is_null(state) else final(state),
        )

    def get_target_column(self) -> str | None:
        """The column that is aggregated, or None."""
        return self._target_col_name

    def get_agg_name(self) -> str:
        """The name without the column: "sum" of "sum(x)"."""
        return self._agg_name

    @abstractmethod
    def aggregate_block(self, block: pa.Table) -> Any:
        """The state of the rows of a table, all of one group."""

    @abstractmethod
    def combine(self, current_accumulator: Any, new: Any) -> Any:
        """One state from two, neither of which is null."""

    def finalize(self, accumulator: Any) -> Any:
        """The result from the last state, which is not null."""
        return accumulator

    def _check(self, names: list[str]) -> None:
        if self._target_col_name is not None and self._target_col_name not in names:
            raise ValueError(st.no_column(self._target_col_name, names))


class _BuiltIn(AggregateFnV2):
    """An aggregate whose states are Arrow columns. Its public methods do for one group what tasks do for all."""

    # How many columns of state it has.
    _width = 1
    _by_group = False

    def __init__(self, name: str, alias: str | None, on: str | None, ignore_nulls: bool) -> None:
        super().__init__(alias or f"{name}({'' if on is None else on})", list, on=on, ignore_nulls=ignore_nulls)

    def aggregate_block(self, block: pa.Table) -> Any:
        return self._one(compute(Groups(block, []), [self._partial(block)])[1][0])

    def combine(self, current_accumulator: Any, new: Any) -> Any:
        pairs = zip(self._many(current_accumulator), self._many(new))
        columns = [pa.array([one, other]) for one, other in pairs]
        groups = Groups(pa.table({str(number): column for number, column in enumerate(columns)}), [])
        return self._one(compute(groups, [self._merge(columns)])[1][0])

    def finalize(self, accumulator: Any) -> Any:
        return python_value(self._finish([pa.array([state]) for state in self._many(accumulator)])[0])

    def _one(self, states: list[pa.Array]) -> Any:
        values = [python_value(state[0]) for state in states]
        return values[0] if self._width == 1 else values

    def _many(self, accumulator: Any) -> list[Any]:
        return [accumulator] if self._width == 1 else list(accumulator)

    def _values(self, table: pa.Table) -> pa.ChunkedArray:
        if self._target_col_name is None:
            raise ValueError(f"{type(self).__name__} needs a column: give it as `on`")
        return table.column(self._target_col_name)

    def _numbers(self, table: pa.Table) -> pa.ChunkedArray:
        return st.numbers(self._values(table), self.name)

    def _options(self) -> Any:
        return pc.ScalarAggregateOptions(skip_nulls=self._ignore_nulls, min_count=1)

    def _partial(self, table: pa.Table) -> States:
        """The states of the rows of a table."""
        raise NotImplementedError

    def _merge(self, states: list[Any]) -> States:
        """The states of groups, of which these are states for some of their rows."""
        raise NotImplementedError

    def _finish(self, states: list[pa.Array]) -> pa.Array:
        """The results of groups."""
        return states[0]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        changed = {"aggregate_block", "combine", "finalize"} & set(vars(cls))
        if changed and cls.__module__ != __name__:
            # A user's subclass is called for each group, so that what it changes is seen.
            cls._by_group = True


class Count(_BuiltIn):
    """The number of rows; with ignore_nulls, of those whose value is not null."""

    def __init__(self, on: str | None = None, ignore_nulls: bool = False, alias_name: str | None = None) -> None:
        super().__init__("count", alias_name, on, ignore_nulls)

    def _partial(self, table: pa.Table) -> States:
        if self._target_col_name is None:
            return ByRows(lambda groups: [pa.array(groups.sizes)]) if not table.num_columns else [st.rows_of(table)]
        return [st.count(self._values(table), self._ignore_nulls)]

    def _merge(self, states: list[Any]) -> States:
        return [st.total(states[0])]


class Sum(_BuiltIn):
    """The sum of numbers. That of integers has 64 bits, and wraps beyond them, as Ray's does."""

    def __init__(self, on: str | None = None, ignore_nulls: bool = True, alias_name: str | None = None) -> None:
        super().__init__("sum", alias_name, on, ignore_nulls)

    def _partial(self, table: pa.Table) -> States:
        return [Kernel(self._numbers(table), "sum", self._options())]

    def _merge(self, states: list[Any]) -> States:
        return [Kernel(states[0], "sum", self._options())]


class _Extreme(_BuiltIn):
    """The least or the largest value; NaN only where all are NaN."""

    _function = ""

    def __init__(self, on: str | None, ignore_nulls: bool, alias_name: str | None) -> None:
        super().__init__(self._function, alias_name, on, ignore_nulls)

    def _partial(self, table: pa.Table) -> States:
        return st.extreme(self._values(table), self._function, self._options(), self.name)

    def _merge(self, states: list[Any]) -> States:
        return st.extreme(states[0], self._function, self._options(), self.name)


class Min(_Extreme):
    """The least value; NaN only where all values are NaN."""

    _function = "min"

    def __init__(
        self,
        on: str | None = None,
        ignore_nulls: bool = True,
        alias_name: str | None = None,
        zero_factory: Callable[[], Any] = lambda: float("+inf"),
    ) -> None:
        super().__init__(on, ignore_nulls, alias_name)


class Max(_Extreme):
    """The largest value; NaN only where all values are NaN."""

    _function = "max"

    def __init__(
        self,
        on: str | None = None,
        ignore_nulls: bool = True,
        alias_name: str | None = None,
        zero_factory: Callable[[], Any] = lambda: float("-inf"),
    ) -> None:
        super().__init__(on, ignore_nulls, alias_name)


class AbsMax(_BuiltIn):
    """The largest absolute value of numbers."""

    def __init__(
        self,
        on: str | None = None,
        ignore_nulls: bool = True,
        alias_name: str | None = None,
        zero_factory: Callable[[], Any] = lambda: 0,
    ) -> None:
        if not isinstance(on, str):
            raise ValueError(f"AbsMax needs the name of a column, not {on!r}")
        super().__init__("abs_max", alias_name, on, ignore_nulls)

    def _partial(self, table: pa.Table) -> States:
        return [Kernel(st.absolute(self._numbers(table)), "max", self._options())]

    def _merge(self, states: list[Any]) -> States:
        return [Kernel(states[0], "max", self._options())]


class Mean(_BuiltIn):
    """The mean of numbers, float64."""

    _width = 2

    def __init__(self, on: str | None = None, ignore_nulls: bool = True, alias_name: str | None = None) -> None:
        super().__init__("mean", alias_name, on, ignore_nulls)

    def _partial(self, table: pa.Table) -> States:
        values = self._numbers(table)
        return [Kernel(st.summable(values), "sum", self._options()), st.count(values, self._ignore_nulls)]

    def _merge(self, states: list[Any]) -> States:
        return [Kernel(states[0], "sum", self._options()), st.total(states[1])]

    def _finish(self, states: list[pa.Array]) -> pa.Array:
        return st.ratio(states[0], states[1])


class Std(_BuiltIn):
    """The standard deviation of numbers: the root of squared distances over (count - ddof); NaN where that is 0."""

    _width = 3

    def __init__(
        self, on: str | None = None, ddof: int = 1, ignore_nulls: bool = True, alias_name: str | None = None
    ) -> None:
        super().__init__("std", alias_name, on, ignore_nulls)
        self._ddof = ddof

    def _partial(self, table: pa.Table) -> States:
        values = st.floats(self._numbers(table))
        options = pc.VarianceOptions(ddof=0, skip_nulls=self._ignore_nulls, min_count=1)
        return [
            Kernel(values, "variance", options),
            Kernel(values, "mean", self._options()),
            st.count(values, self._ignore_nulls),
        ]

    def _merge(self, states: list[Any]) -> States:
        return ByRows(lambda groups: st.merge_variances(groups, states, self._ignore_nulls))

    def _finish(self, states: list[pa.Array]) -> pa.Array:
        return st.deviation(states, self._ddof)


class Quantile(_BuiltIn):
    """The exact quantile of numbers, between two values by their distance; float64. NaN are left out."""

    def __init__(
        self, on: str | None = None, q: float = 0.5, ignore_nulls: bool = True, alias_name: str | None = None
    ) -> None:
        super().__init__("quantile", alias_name, on, ignore_nulls)
        self._q = q

    def _partial(self, table: pa.Table) -> States:
        values = self._numbers(table)
        return ByRows(lambda groups: [groups.collect(values)])

    def _merge(self, states: list[Any]) -> States:
        return ByRows(lambda groups: [st.merge_lists(groups, states[0])])

    def _finish(self, states: list[pa.Array]) -> pa.Array:
        return st.quantile(states[0], self._q, self._ignore_nulls)


class AsList(_BuiltIn):
    """All values of a group as a list."""

    def __init__(self, on: str, alias_name: str | None = None, ignore_nulls: bool = False) -> None:
        super().__init__("list", alias_name, on, ignore_nulls)

    def _partial(self, table: pa.Table) -> States:
        values = self._values(table)
        rows = st.rows_without_nulls(values) if self._ignore_nulls else None
        return ByRows(lambda groups: [groups.collect(values, rows)])

    def _merge(self, states: list[Any]) -> States:
        return ByRows(lambda groups: [st.merge_lists(groups, states[0])])


class Unique(_BuiltIn):
    """Each value of a group once, as a list. All NaN are one value.

    encode_lists: True, or `ListEncodingMode.FLATTEN`, takes the items of lists as values; `HASH` gives a hash of each
    list; otherwise a list is a value.
    """

    class ListEncodingMode(str, enum.Enum):
        """How a list counts: by its items, or by its hash."""

        FLATTEN = "FLATTEN"
        HASH = "HASH"

    def __init__(
        self,
        on: str | None = None,
        ignore_nulls: bool = False,
        alias_name: str | None = None,
        encode_lists: bool | str | None = None,
    ) -> None:
        super().__init__("unique", alias_name, on, ignore_nulls)
        mode = Unique.ListEncodingMode.FLATTEN if encode_lists is True else encode_lists
        self._lists = mode.value if isinstance(mode, Unique.ListEncodingMode) else ""

    def _partial(self, table: pa.Table) -> States:
        values = self._values(table)
        return ByRows(lambda groups: [st.distinct(groups, values, self._ignore_nulls, self._lists)])

    def _merge(self, states: list[Any]) -> States:
        return ByRows(lambda groups: [st.distinct(groups, states[0], self._ignore_nulls, "FLATTEN")])


class CountDistinct(Unique):
    """How many different values a group has."""

    def __init__(self, on: str, ignore_nulls: bool = True, alias_name: str | None = None) -> None:
        super().__init__(on, ignore_nulls, alias_name or f"count_distinct({on})")

    def _finish(self, states: list[pa.Array]) -> pa.Array:
        return pc.list_value_length(states[0]).cast(pa.int64())


class ValueCounter(_BuiltIn):
    """How often each value is there: a struct of the lists `values` and `counts`. Null is a value."""

    _width = 2

    def __init__(self, on: str, alias_name: str | None = None) -> None:
        super().__init__("value_counter", alias_name, on, True)

    def _partial(self, table: pa.Table) -> States:
        values = self._values(table)
        return ByRows(lambda groups: st.value_counts(groups, values, None))

    def _merge(self, states: list[Any]) -> States:
        return ByRows(lambda groups: st.merge_value_counts(groups, states))

    def _finish(self, states: list[pa.Array]) -> pa.Array:
        return pa.StructArray.from_arrays(states, ["values", "counts"])


class _Share(_BuiltIn):
    """The percentage of rows that have some property; null where there are no rows."""

    _width = 2

    def _partial(self, table: pa.Table) -> States:
        values = self._values(table)
        return [Kernel(self._has(values).cast(pa.int64()), "sum", st.FROM_ZERO), st.count(values, self._ignore_nulls)]

    def _has(self, values: pa.ChunkedArray) -> pa.ChunkedArray:
        raise NotImplementedError

    def _merge(self, states: list[Any]) -> States:
        return [st.total(states[0]), st.total(states[1])]

    def _finish(self, states: list[pa.Array]) -> pa.Array:
        return pc.multiply(st.ratio(states[0], states[1]), pa.scalar(100.0, pa.float64()))


class MissingValuePercentage(_Share):
    """The percentage of values that are null or NaN; null where there are no rows."""

    def __init__(self, on: str, alias_name: str | None = None) -> None:
        super().__init__("missing_pct", alias_name, on, False)

    def _has(self, values: pa.ChunkedArray) -> pa.ChunkedArray:
        return pc.is_null(values, nan_is_null=True)


class ZeroPercentage(_Share):
    """The percentage of values that are 0; null where there are none. With ignore_nulls, of those that are not null."""

    def __init__(self, on: str, ignore_nulls: bool = True, alias_name: str | None = None) -> None:
        super().__init__("zero_pct", alias_name, on, ignore_nulls)

    def _has(self, values: pa.ChunkedArray) -> pa.ChunkedArray:
        return pc.fill_null(pc.equal(st.numbers(values, self.name), 0), False)


class _Sketch(AggregateFnV2):
    """An aggregate over a sketch of the package datasketches; its state is the serialized sketch."""

    def __init__(self, name: str, on: str) -> None:
        st.datasketches(type(self).__name__)
        super().__init__(name, lambda: self._empty().serialize(), on=on, ignore_nulls=True)

    def _empty(self) -> Any:
        raise NotImplementedError

    def combine(self, current_accumulator: bytes, new: bytes) -> bytes:
        sketch = self._empty()
        for state in (current_accumulator, new):
            sketch.merge(type(sketch).deserialize(state))
        return sketch.serialize()


class ApproximateQuantile(_Sketch):
    """Quantiles of numbers by a KLL sketch, a list of float; null are left out.

    quantile_precision: 800 is within 0.35 % of the rank, 100 within 2.6 %. Needs the package datasketches.
    """

    def __init__(
        self, on: str, quantiles: list[float], quantile_precision: int = 800, alias_name: str | None = None
    ) -> None:
        self._quantiles, self._precision = quantiles, quantile_precision
        super().__init__(alias_name or f"approx_quantile({on})", on)

    def _empty(self) -> Any:
        return st.datasketches(type(self).__name__).kll_floats_sketch(k=self._precision)

    def aggregate_block(self, block: pa.Table) -> bytes:
        sketch = self._empty()
        values = st.floats(st.numbers(block.column(self._target_col_name), self.name)).drop_null()
        sketch.update(np.asarray(values, np.float32))
        return sketch.serialize()

    def finalize(self, accumulator: bytes) -> list[float]:
        sketch = type(self._empty()).deserialize(accumulator)
        return list(sketch.get_quantiles(self._quantiles))


class ApproximateTopK(_Sketch):
    """The k values that are there most often, with their counts: a list of dicts of the column's name and `count`.

    Values that are there more often than rows / 2 ** log_capacity are found for sure. encode_lists: the items of lists
    are the values. Needs the package datasketches.
    """

    def __init__(
        self, on: str, k: int, log_capacity: int = 15, alias_name: str | None = None, encode_lists: bool = False
    ) -> None:
        self.k, self._log_capacity, self._encode_lists = k, log_capacity, encode_lists
        super().__init__(alias_name or f"approx_topk({on})", on)

    def _empty(self) -> Any:
        return st.datasketches(type(self).__name__).frequent_strings_sketch(lg_max_k=self._log_capacity)

    def aggregate_block(self, block: pa.Table) -> bytes:
        sketch = self._empty()
        for text, count in st.counted_texts(block.column(self._target_col_name), self._encode_lists):
            sketch.update(text, count)
        return sketch.serialize()

    def finalize(self, accumulator: bytes) -> list[dict[str, Any]]:
        kinds = st.datasketches(type(self).__name__).frequent_items_error_type
        found = type(self._empty()).deserialize(accumulator).get_frequent_items(kinds.NO_FALSE_NEGATIVES)
        column = str(self._target_col_name)
        return [{column: st.value_of_text(item[0]), "count": int(item[1])} for item in found[: self.k]]

"""`GroupedData`: the rows of a dataset in groups, and what is made of each group."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pyarrow as pa

from hpc.data import aggregate as fns
from hpc.data.compute import ComputeStrategy
from hpc.data.methods import staging
from hpc.data.methods.look import schema
from hpc.data.methods.rows import _applied
from hpc.data.methods.shuffles import names_of
from hpc.data.plan import nodes
from hpc.data.planned import Planned
from hpc.data.shuffle.aggregate import Aggregated
from hpc.data.shuffle.hashed import HashShuffle
from hpc.data.transform.groups import MapGroups


class GroupedData:
    """Rows in groups: what `Dataset.groupby` gives. Null is a key as others, and so is NaN."""

    def __init__(self, dataset: Planned, key: str | list[str] | None, *, num_partitions: int | None = None) -> None:
        self._dataset = dataset
        self._key = key
        self._keys = () if key is None else names_of("the key of groupby", key)
        self._num_partitions = num_partitions

    def __repr__(self) -> str:
        return f"GroupedData(dataset={self._dataset!r}, key={self._key!r})"

    def aggregate(self, *aggs: fns.AggregateFn) -> Any:
        """The dataset with a row for each group: its keys, and what the aggregates make of its rows.

        Raises TypeError for what is no aggregate. The order of the rows is not fixed."""
        for fn in aggs:
            if not isinstance(fn, fns.AggregateFn):
                raise TypeError(f"aggregate takes aggregates, as Sum('x'), and {fn!r} is none")
        exchange = Aggregated(tuple(dict.fromkeys(self._keys)), tuple(aggs), self._num_partitions)
        return self._dataset.derived(nodes.Exchanged((self._dataset.plan,), exchange))

    def _of_columns(self, make: Callable[..., fns.AggregateFn], on: Any, **more: Any) -> Any:
        if on is None:
            found = schema(self._dataset)
            names = () if found is None else tuple(name for name in found.names if name not in self._keys)
        else:
            names = names_of("on", on)
        return self.aggregate(*(make(name, **more) for name in names))

    def count(self) -> Any:
        """The dataset with the number of rows of each group, in the column `count()`."""
        return self.aggregate(fns.Count())

    def sum(self, on: str | list[str] | None = None, ignore_nulls: bool = True) -> Any:
        """The dataset with the sums of a column, or of several (None: all but the keys), of each group."""
        return self._of_columns(fns.Sum, on, ignore_nulls=ignore_nulls)

    def min(self, on: str | list[str] | None = None, ignore_nulls: bool = True) -> Any:
        """The dataset with the least values of a column, or of several (None: all but the keys), of each group."""
        return self._of_columns(fns.Min, on, ignore_nulls=ignore_nulls)

    def max(self, on: str | list[str] | None = None, ignore_nulls: bool = True) -> Any:
        """The dataset with the largest values of a column, or of several (None: all but the keys), of each group."""
        return self._of_columns(fns.Max, on, ignore_nulls=ignore_nulls)

    def mean(self, on: str | list[str] | None = None, ignore_nulls: bool = True) -> Any:
        """The dataset with the means of a column, or of several (None: all but the keys), of each group."""
        return self._of_columns(fns.Mean, on, ignore_nulls=ignore_nulls)

    def std(self, on: str | list[str] | None = None, ddof: int = 1, ignore_nulls: bool = True) -> Any:
        """The dataset with the standard deviations of a column, or of several, of each group."""
        return self._of_columns(fns.Std, on, ddof=ddof, ignore_nulls=ignore_nulls)

    def with_column(self, column_name: str, expr: Any, **ray_remote_args: Any) -> Any:
        """The dataset with one column more: an expression over the rows of each group."""
        if not hasattr(expr, "evaluate"):
            raise TypeError(f"with_column takes an expression, as col('x') + 1, not {expr!r}")
        return self.map_groups(_WithColumn(column_name, expr), batch_format="pyarrow", **ray_remote_args)

    def map_groups(
        self,
        fn: Callable[..., Any] | type,
        *,
        zero_copy_batch: bool = True,
        compute: ComputeStrategy | None = None,
        batch_format: str | None = "default",
        fn_args: Iterable[Any] | None = None,
        fn_kwargs: dict[str, Any] | None = None,
        fn_constructor_args: Iterable[Any] | None = None,
        fn_constructor_kwargs: dict[str, Any] | None = None,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        memory: float | None = None,
        concurrency: int | tuple[int, int] | tuple[int, int, int] | None = None,
        ray_remote_args_fn: Callable[[], dict[str, Any]] | None = None,
        **ray_remote_args: Any,
    ) -> Any:
        """The dataset of what a function returns or yields for each group, given as one batch.

        All rows of a group are in memory at once. ``fn``: as in `Dataset.map_batches`. Without a key all rows are one
        group."""
        staging.check_format(batch_format)
        keys = tuple(dict.fromkeys(self._keys))
        exchange = HashShuffle(keys, self._num_partitions, sorted=True)
        shuffled = self._dataset.derived(nodes.Exchanged((self._dataset.plan,), exchange))
        given = dict.fromkeys(staging.NAMED)
        named = {name: ray_remote_args.pop(name) for name in list(ray_remote_args) if name in given}
        given.update(named, num_cpus=num_cpus, num_gpus=num_gpus, memory=memory)
        return _applied(
            shuffled,
            fn,
            "map_groups",
            _Grouped(keys),
            compute,
            concurrency,
            fn_args,
            fn_kwargs,
            fn_constructor_args,
            fn_constructor_kwargs,
            more={"batch_format": batch_format, "zero_copy_batch": zero_copy_batch},
            ray_remote_args_fn=ray_remote_args_fn,
            ray_remote_args=ray_remote_args,
            **given,
        )


class _Grouped:
    """Makes the transform of `map_groups`."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        self.keys = keys

    def __call__(self, fn: Any, **options: Any) -> MapGroups:
        return MapGroups(fn, self.keys, **options)


class _WithColumn:
    """A column more for the rows of a group."""

    def __init__(self, name: str, expr: Any) -> None:
        self.__name__ = f"with_column({name})"
        self.column, self.expr = name, expr

    def __call__(self, table: pa.Table) -> pa.Table:
        values = self.expr.evaluate(table)
        place = table.schema.get_field_index(self.column)
        return table.set_column(place, self.column, values) if place >= 0 else table.append_column(self.column, values)

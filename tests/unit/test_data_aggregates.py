"""Aggregates of hpc.data: the values, types and names that Ray Data 2.60 gives, whatever the blocks are."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

pa = pytest.importorskip("pyarrow")
pd = pytest.importorskip("pandas")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from hpc.data.aggregate import (  # noqa: E402
    AbsMax,
    AggregateFn,
    AggregateFnV2,
    ApproximateQuantile,
    ApproximateTopK,
    AsList,
    Count,
    CountDistinct,
    Max,
    Mean,
    Min,
    MissingValuePercentage,
    Quantile,
    Std,
    Sum,
    Unique,
    ValueCounter,
    ZeroPercentage,
)  # fmt: skip
from hpc.data.block.promote import concat  # noqa: E402
from hpc.data.shuffle import states  # noqa: E402
from hpc.data.shuffle.aggregate import Aggregated  # noqa: E402
from hpc.data.shuffle.local import run  # noqa: E402

NAN = float("nan")
BLOCKS = [
    pa.table({"k": pa.array([2, 1, None, 2]), "x": pa.array([1, 2, 3, None]), "f": [1.0, NAN, 2.0, 4.0]}),
    pa.table({"k": pa.array([1, None, 3, 3]), "x": pa.array([10, 20, None, None]), "f": [0.0, 3.0, NAN, NAN]}),
]

# What Ray Data 2.60 printed for these blocks: the groups None, 1, 2, 3, then all rows.
AS_RAY = [
    (Count(), [2, 2, 2, 2], 8),
    (Count("x"), [2, 2, 2, 2], 8),
    (Count("x", ignore_nulls=True), [2, 2, 1, 0], 5),
    (Sum("x"), [23, 12, 1, None], 36),
    (Sum("x", ignore_nulls=False), [23, 12, None, None], None),
    (Sum("f"), [5.0, NAN, 5.0, NAN], NAN),
    (Min("x"), [3, 2, 1, None], 1),
    (Min("x", ignore_nulls=False), [3, 2, None, None], None),
    (Min("f"), [2.0, 0.0, 1.0, NAN], 0.0),
    (Max("f"), [3.0, 0.0, 4.0, NAN], 4.0),
    (Max("x", ignore_nulls=False), [20, 10, None, None], None),
    (Mean("x"), [11.5, 6.0, 1.0, None], 7.2),
    (Mean("f"), [2.5, NAN, 2.5, NAN], NAN),
    (Mean("x", ignore_nulls=False), [11.5, 6.0, None, None], None),
    (Std("x"), [12.020815280171307, 5.656854249492381, NAN, None], 7.981227975693966),
    (Std("x", ddof=0, alias_name="s"), [8.5, 4.0, 0.0, None], 7.138627319029899),
    (Std("x", ignore_nulls=False), [12.020815280171307, 5.656854249492381, None, None], None),
    (AbsMax("x"), [20, 10, 1, None], 20),
    (AbsMax("x", ignore_nulls=False), [20, 10, None, None], None),
    (Quantile("x"), [11.5, 6.0, 1.0, None], 3.0),
    (Quantile("f", q=0.25), [2.25, 0.0, 1.75, None], 1.0),
    (Quantile("x", ignore_nulls=False), [11.5, 6.0, None, None], None),
    (Unique("x"), [[3, 20], [2, 10], [1, None], [None]], [1, 2, 3, None, 10, 20]),
    (Unique("f"), [[2.0, 3.0], [NAN, 0.0], [1.0, 4.0], [NAN]], [1.0, NAN, 2.0, 4.0, 0.0, 3.0]),
    (Unique("x", ignore_nulls=True), [[3, 20], [2, 10], [1], []], [1, 2, 3, 10, 20]),
    (CountDistinct("x"), [2, 2, 1, 0], 5),
    (CountDistinct("f"), [2, 2, 2, 1], 6),
    (CountDistinct("x", ignore_nulls=False), [2, 2, 2, 1], 6),
    (AsList("x"), [[3, 20], [2, 10], [1, None], [None, None]], [1, 2, 3, None, 10, 20, None, None]),
    (AsList("x", ignore_nulls=True), [[3, 20], [2, 10], [1], []], [1, 2, 3, 10, 20]),
    (MissingValuePercentage("f"), [0.0, 50.0, 0.0, 100.0], 37.5),
    (ZeroPercentage("f"), [0.0, 50.0, 0.0, 0.0], 12.5),
    (ZeroPercentage("x", ignore_nulls=False), [0.0, 0.0, 0.0, 0.0], 0.0),
    (Sum("x", alias_name="q"), [23, 12, 1, None], 36),
]


def grouped(blocks, *aggregates, keys=("k",), partitions=3):
    return concat(list(run(Aggregated(keys, aggregates), [blocks], partitions)))


@pytest.mark.parametrize(("aggregate", "groups", "whole"), AS_RAY, ids=lambda value: getattr(value, "name", ""))
def test_values_are_those_of_ray(aggregate, groups, whole):
    found = {row["k"]: row[aggregate.name] for row in grouped(BLOCKS, aggregate).to_pylist()}
    assert repr([found[key] for key in (None, 1, 2, 3)]) == repr(groups)
    assert repr(grouped(BLOCKS, aggregate, keys=()).to_pylist()) == repr([{aggregate.name: whole}])


def test_names_and_types_are_those_of_ray():
    table = grouped(BLOCKS, Sum("x"), Sum("x"), Count(), Mean("f"), ValueCounter("x"))
    assert table.column_names == ["k", "sum(x)", "sum(x)_2", "count()", "mean(f)", "value_counter(x)"]
    assert [str(kind) for kind in table.schema.types[:5]] == ["int64", "int64", "int64", "int64", "double"]
    found = {row["k"]: row["value_counter(x)"] for row in table.to_pylist()}
    assert found[2] == {"values": [1, None], "counts": [1, 1]}
    assert found[3] == {"values": [None], "counts": [2]}


def test_all_nan_are_one_group_and_so_are_both_zeros():
    table = grouped([pa.table({"f": [NAN, 0.0]}), pa.table({"f": [-NAN, -0.0]})], Count(), keys=("f",))
    assert sorted(table["count()"].to_pylist()) == [2, 2]


def test_groups_of_several_keys_of_any_type():
    block = pa.table({"a": ["x", "x", None], "l": [[1], [1], None], "s": [{"q": 1}, {"q": 1}, None], "v": [1, 2, 3]})
    assert sorted(grouped([block, block], Sum("v"), keys=("a", "l", "s"))["sum(v)"].to_pylist()) == [6, 6]


def test_no_rows_give_zero_and_null():
    none = BLOCKS[0].slice(0, 0)
    table = grouped([none], Count(), Sum("x"), Mean("x"), Unique("x"), Std("x"), keys=())
    assert table.to_pylist() == [{"count()": 0, "sum(x)": None, "mean(x)": None, "unique(x)": [], "std(x)": None}]
    assert grouped([none], Count()).num_rows == 0


class Longest(AggregateFnV2):
    def __init__(self):
        super().__init__("longest(x)", lambda: "", on="x", ignore_nulls=True)

    def aggregate_block(self, block):
        return max((text for text in block.column("x").to_pylist() if text), key=len, default=None)

    def combine(self, current, new):
        return max(current, new, key=len)

    def finalize(self, accumulator):
        return accumulator.upper()


def test_aggregates_of_users_are_called_for_each_group():
    blocks = [pa.table({"k": [1, 2], "x": ["a", None]}), pa.table({"k": [1], "x": ["bb"]})]
    rows = AggregateFn(lambda key: [str(key)], lambda a, b: a + b[1:], "rows", lambda a, row: [*a, row["x"]])
    found = {row["k"]: row for row in grouped(blocks, Longest(), rows).to_pylist()}
    assert found == {
        1: {"k": 1, "longest(x)": "BB", "rows": ["1", "a", "bb"]},
        2: {"k": 2, "longest(x)": None, "rows": ["2", None]},
    }
    assert grouped(blocks, Longest(), keys=()).to_pylist() == [{"longest(x)": "BB"}]


class Half(Mean):
    def finalize(self, accumulator):
        return super().finalize(accumulator) / 2


def test_a_subclass_of_ours_has_its_way():
    assert grouped(BLOCKS, Half("x"), keys=()).to_pylist() == [{"mean(x)": 3.6}]


def test_public_methods_do_for_one_group_what_tasks_do():
    mean = Mean("x")
    state = mean.combine(mean.aggregate_block(BLOCKS[0]), mean.aggregate_block(BLOCKS[1]))
    assert state == [36, 5] and mean.finalize(state) == 7.2
    assert (mean.get_agg_name(), mean.get_target_column(), mean.name) == ("mean", "x", "mean(x)")


@pytest.mark.parametrize(
    ("aggregate", "error", "words"),
    [
        (Sum("none"), ValueError, "no column 'none'"),
        (Sum("s"), TypeError, r"sum\(s\): values of type string are no numbers"),
        (Min("l"), TypeError, "have no order"),
        (Sum(), ValueError, "needs a column"),
        (Quantile("x", q=2), ValueError, "between 0 and 1"),
    ],
)
def test_wrong_columns_are_named(aggregate, error, words):
    block = pa.table({"k": [1], "s": ["a"], "l": [[1]], "x": [1]})
    with pytest.raises(error, match=words):
        grouped([block], aggregate)


def test_an_aggregate_takes_exactly_one_way_to_accumulate():
    with pytest.raises(ValueError, match="exactly one"):
        AggregateFn(lambda key: 0, lambda a, b: a, "a")
    with pytest.raises(TypeError, match="string"):
        AggregateFn(lambda key: 0, lambda a, b: a, 3, lambda a, row: a)


values = st.lists(st.tuples(st.integers(0, 4), st.one_of(st.none(), st.integers(-1000, 1000))), max_size=40)


@settings(deadline=None, max_examples=60)
@given(rows=values, cuts=st.lists(st.integers(0, 40), max_size=3), partitions=st.integers(1, 5))
def test_groups_are_those_of_pandas_however_rows_are_cut(rows, cuts, partitions):
    frame = pd.DataFrame({"k": [k for k, _ in rows], "x": pd.array([x for _, x in rows], "Int64")})
    table = pa.table({"k": pa.array([k for k, _ in rows], pa.int64()), "x": pa.array([x for _, x in rows], pa.int64())})
    bounds = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    blocks = [table.slice(start, stop - start) for start, stop in pairwise(bounds)]
    aggregates = (
        Count("x", ignore_nulls=True),
        Sum("x"),
        Min("x"),
        Mean("x"),
        Std("x"),
        Quantile("x"),
        CountDistinct("x"),
    )
    found = {row.pop("k"): row for row in grouped(blocks, *aggregates, partitions=partitions).to_pylist()}
    assert set(found) == set(frame["k"])
    for key, group in frame.groupby("k"):
        x = group["x"].dropna().astype("int64")
        wanted = [len(x), x.sum(), x.min(), x.mean(), x.std(), x.quantile(), x.nunique()]
        for name, value, got in zip((fn.name for fn in aggregates), wanted, found[key].values()):
            if not len(x):
                assert got in (None, 0), name
            else:
                assert got == pytest.approx(float(value), nan_ok=True), (name, math.nan)


def test_sketches_give_what_ray_gives():
    pytest.importorskip("datasketches")
    blocks = [pa.table({"u": [1, 2], "s": ["a", "a"]}), pa.table({"u": [3], "s": ["b"]})]
    quantiles, most = ApproximateQuantile("u", [0.1, 0.5, 0.9]), ApproximateTopK("s", 2)
    assert grouped(blocks, quantiles, most, keys=()).to_pylist() == [
        {
            "approx_quantile(u)": [1.0, 2.0, 3.0],
            "approx_topk(s)": [{"s": "a", "count": 2}, {"s": "b", "count": 1}],
        }
    ]


def test_a_sketch_names_the_package_that_it_needs(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasketches", None)
    states._datasketches.cache_clear()
    with pytest.raises(ImportError, match="pip install datasketches"):
        ApproximateQuantile("x", [0.5])


@pytest.mark.parametrize("fn", [Sum, Min, Max, Mean, Std, AbsMax, Quantile])
@pytest.mark.parametrize("bundle", [1, 2, 4])
def test_a_block_without_rows_is_no_null(fn, bundle):
    some, none = pa.table({"x": [1, 2, 6]}), pa.table({"x": pa.array([], pa.int64())})
    exchange = Aggregated((), (fn("x", ignore_nulls=False),))

    def values(blocks):
        return [table.column(0).to_pylist() for table in run(exchange, [blocks], bundle=bundle)]

    assert values([none, some, none, none]) == values([some]) != [[None]]
    assert values([none, none]) == values([none]) == [[None]]
    assert values([some, pa.table({"x": pa.array([None], pa.int64())})]) == [[None]]


def test_counts_of_no_rows_are_0():
    none = pa.table({"x": pa.array([], pa.int64())})
    exchange = Aggregated((), (Count(), Count("x", ignore_nulls=True)))
    (found,) = run(exchange, [[none, none]])
    assert found.to_pylist() == [{"count()": 0, "count(x)": 0}]


def test_the_mean_of_large_integers_does_not_wrap():
    big = 2**62
    blocks = [pa.table({"x": pa.array([big, big], kind)}) for kind in (pa.int64(), pa.uint64())]
    (found,) = run(Aggregated((), (Mean("x"), Mean("x", alias_name="again"))), [blocks])
    assert found.to_pylist() == [{"mean(x)": float(big), "again": float(big)}]

"""Exchanges of hpc.data on a session: what tasks and the store make of them, and that no row is lost when they die."""

from __future__ import annotations

import os
import signal

import pytest

from runtime.running import one_node

pa = pytest.importorskip("pyarrow")

from hpc.data.aggregate import AggregateFnV2, Count, Mean, Sum  # noqa: E402
from hpc.data.dataset import from_blocks  # noqa: E402
from hpc.data.expressions import col  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def session():
    with one_node(num_cpus=2):
        yield


@pytest.fixture(scope="module")
def data():
    """1,000 rows in ten blocks."""
    return from_blocks(
        [pa.table({"id": range(n, n + 100), "k": [i % 7 for i in range(n, n + 100)]}) for n in range(0, 1000, 100)]
    )


def sizes(ds):
    return [handle.meta.rows for handle in ds.handles()]


def test_rows_come_sorted_and_blocks_are_cut_at_boundaries(data):
    assert [row["id"] for row in data.sort("id", descending=True).take_all()] == list(range(999, -1, -1))
    found = data.sort(["k", "id"], descending=[True, False]).take_all()
    assert [(row["k"], row["id"]) for row in found[:2]] == [(6, 6), (6, 13)]
    assert sizes(data.sort("id", boundaries=[10, 500])) == [10, 490, 500]


def test_what_follows_an_exchange_is_done_by_its_last_tasks(data):
    found = data.sort("id").with_column("x", col("id") * 2).filter(expr=col("x") % 4 == 2).materialize()
    assert [row["x"] for row in found.take_all()] == list(range(2, 2000, 4))
    assert "Sort(id)->WithColumns->Filter: " in found.stats()
    early = data.sort("id").filter(expr=col("id") % 2 == 1).materialize()
    assert early.stats().index("Filter") < early.stats().index("Sort(id)"), "a filter that may be is before the sort"
    blocks = data.repartition(5, shuffle=True).select_columns(["k"])
    assert sizes(blocks) == [200] * 5
    joined = data.join(data.groupby("k").aggregate(Sum("id")), "inner", 2, on=("k",)).groupby("k").aggregate(Count())
    assert sorted(row["count()"] for row in joined.take_all()) == [142, 143, 143, 143, 143, 143, 143]


def test_a_random_order_has_each_row_once_and_a_seed_repeats_it(data):
    once, again = ([row["id"] for row in data.random_shuffle(seed=3).take_all()] for _ in range(2))
    assert once == again != list(range(1000))
    assert sorted(once) == list(range(1000))


def test_blocks_are_as_many_as_wanted(data):
    assert sizes(data.repartition(7)) == [142, 143, 143, 143, 143, 143, 143]
    assert sizes(data.repartition(3, shuffle=True)) == [334, 333, 333]
    assert sizes(data.repartition(target_num_rows_per_block=300, strict=True)) == [300, 300, 300, 100]
    keyed = sizes(data.repartition(5, keys=["k"]))
    assert len(keyed) == 5 and sum(keyed) == 1000
    assert len(sizes(data.random_shuffle(seed=1))) > 1, "few rows are work for more than one CPU, too"


class Longest(AggregateFnV2):
    def __init__(self):
        super().__init__("longest", lambda: 0, on="id", ignore_nulls=True)

    def aggregate_block(self, block):
        return max(len(str(value)) for value in block.column("id").to_pylist())

    def combine(self, current, new):
        return max(current, new)


def test_groups_and_values_of_all_rows(data):
    found = {row["k"]: row for row in data.groupby("k").aggregate(Sum("id"), Count(), Longest()).take_all()}
    assert found[6] == {"k": 6, "sum(id)": sum(range(6, 1000, 7)), "count()": 142, "longest": 3}
    assert data.aggregate(Mean("id"), Longest()) == {"mean(id)": 499.5, "longest": 3}
    assert (data.sum("id"), data.max(["id", "k"])) == (499500, {"max(id)": 999, "max(k)": 6})
    assert data.unique("k") == list(range(7))
    counts = data.groupby("k").map_groups(lambda group: {"k": group["k"][:1], "n": [len(group["id"])]}).take_all()
    assert {row["k"]: row["n"] for row in counts} == {k: 143 if k < 6 else 142 for k in range(7)}
    assert data.groupby("k").mean("id").schema().names == ["k", "mean(id)"]


def test_joins_of_two_datasets(data):
    other = from_blocks([pa.table({"k": [1, 2, 9], "w": ["a", "b", "c"]})])
    assert data.join(other, "inner", 3, on=("k",)).count() == 286
    assert data.join(other, "full_outer", 3, on=("k",)).count() == 1001
    with pytest.raises(ValueError, match="no column 'zz'"):
        data.join(other, "inner", 3, on=("zz",))


def test_wrong_arguments_are_told_before_anything_runs(data):
    for wrong, words in (
        (lambda: data.sort("zz"), "no column 'zz'"),
        (lambda: data.sort([]), "empty"),
        (lambda: data.sort("id", descending=[True, False]), "2 values for 1 keys"),
        (lambda: data.repartition(), "neither"),
        (lambda: data.repartition(3, target_num_rows_per_block=3), "both"),
        (lambda: data.repartition(0), "positive"),
        (lambda: data.groupby("zz"), "no column 'zz'"),
        (lambda: data.aggregate(), "needs an aggregate"),
        (lambda: data.join(data, "cross", 2, on=("id",)), "none of inner"),
    ):
        with pytest.raises(ValueError, match=words):
            wrong()


def test_a_task_that_dies_in_an_exchange_loses_no_row_and_gives_none_twice(data, tmp_path):
    def die_once(batch):
        mark = tmp_path / f"died-{batch['id'][0]}"
        if batch["id"][0] in (100, 500) and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return batch

    found = data.map_batches(die_once).sort("id").take_all()
    assert [row["id"] for row in found] == list(range(1000))
    assert len(list(tmp_path.iterdir())) == 2

    def die_in_a_group(group):
        mark = tmp_path / "group"
        if group["k"][0] == 3 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {"k": group["k"][:1], "sum": [group["id"].sum()]}

    sums = {row["k"]: row["sum"] for row in data.groupby("k").map_groups(die_in_a_group).take_all()}
    assert sums == {k: sum(range(k, 1000, 7)) for k in range(7)}


def test_what_a_function_raises_in_an_exchange_ends_the_run(data):
    with pytest.raises(Exception, match="have no order"):
        from_blocks([pa.table({"l": [[1], [2]]})]).sort("l").take_all()

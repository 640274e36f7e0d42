"""Joins that the tasks which read one side do: the rows are those of an exchange."""

from __future__ import annotations

import pytest

from runtime.running import one_node

pa = pytest.importorskip("pyarrow")
import numpy as np  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

import hpc.data  # noqa: E402
from hpc.data.aggregate import Count, Sum  # noqa: E402
from hpc.data.expressions import col  # noqa: E402
from hpc.data.shuffle.join import TYPES  # noqa: E402

MIB = 1 << 20
FILES, ROWS = 4, 20_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("joins")
    for number in range(FILES):
        ids = np.arange(ROWS) + number * ROWS
        names = pa.array([None if i % 50 == 0 else f"name-{i % 7}" for i in range(ROWS)])
        pq.write_table(pa.table({"k": ids % 1000, "id": ids, "name": names}), made / f"large-{number}.parquet")
    keys = np.arange(0, 1200, 2)
    pq.write_table(pa.table({"k": keys, "x": keys / 4}), made / "small.parquet")
    pq.write_table(pa.table({"k": np.arange(1_200_000), "y": np.arange(1_200_000)}), made / "wide.parquet")
    return made


@pytest.fixture(scope="module", autouse=True)
def session():
    with one_node(num_cpus=2, object_store_memory=64 * MIB):
        yield


def large(folder):
    return hpc.data.read_parquet(sorted(map(str, folder.glob("large-*.parquet"))))


def small(folder):
    return hpc.data.read_parquet(str(folder / "small.parquet"))


def rows_of(data):
    return sorted((tuple(sorted(row.items())) for row in data.take_all()), key=repr)


@pytest.mark.parametrize("turned", [False, True], ids=["large with small", "small with large"])
@pytest.mark.parametrize("kind", TYPES)
def test_rows_are_those_of_an_exchange(folder, kind, turned):
    sides = [large(folder), small(folder)]
    sides = sides[::-1] if turned else sides
    found = sides[0].join(sides[1], kind, 3, on=("k",))
    # What is held in the store is joined there.
    expected = sides[0].materialize().join(sides[1].materialize(), kind, 3, on=("k",))
    assert rows_of(found) == rows_of(expected)
    by_reads = "full" not in kind and (kind == "inner" or kind.startswith("right" if turned else "left"))
    assert (f"ReadParquet->Join({kind})" in found.stats()) == by_reads


def test_what_follows_a_join_is_done_by_the_tasks_that_read(folder, capsys):
    joined = large(folder).filter(expr=col("id") % 2 == 0).join(small(folder), "inner", 3, on=("k",))
    found = joined.with_column("z", col("x") + col("id")).groupby("name").aggregate(Sum("z"), Count()).sort("name")
    rows = found.take_all()
    ids = np.arange(FILES * ROWS)
    kept = ids[(ids % 2 == 0) & (ids % 1000 < 1200)]
    names = np.array(["" if i % 50 == 0 else f"name-{i % 7}" for i in kept % ROWS])
    assert [row["name"] for row in rows] == [*sorted(set(names) - {""}), None]
    for row in rows:
        some = kept[names == (row["name"] or "")]
        assert row["count()"] == len(some) and row["sum(z)"] == (some % 1000 / 4 + some).sum()
    assert "->Join(inner)->WithColumns->PartialAggregate(name)" in found.stats()
    found.explain()
    assert "(the tasks that read the left side do it, if the other one is small)" in capsys.readouterr().out


def test_a_side_that_is_not_small_goes_by_the_hash_of_its_keys(folder):
    wide = hpc.data.read_parquet(str(folder / "wide.parquet")).with_column("z", col("y") * 2.0)
    found = wide.join(large(folder).filter(expr=col("id") < 5000), "right_outer", 4, on=("k",))
    many = hpc.data.read_parquet([str(folder / "wide.parquet")] * 3).join(
        wide, "inner", 4, on=("k",), right_suffix="_r"
    )
    assert many.count() == 3 * 1_200_000 and "->Join" not in many.stats()
    assert found.count() == 5000


def test_an_empty_side_joins_nothing(folder):
    nothing = small(folder).filter(expr=col("x") < 0)
    assert large(folder).join(nothing, "inner", 3, on=("k",)).take_all() == []
    outer = large(folder).join(nothing, "left_outer", 3, on=("k",))
    assert outer.columns() == ["k", "id", "name", "x"] and outer.sum("id") == sum(range(FILES * ROWS))


def test_wrong_columns_are_told_as_in_any_join(folder):
    with pytest.raises(Exception, match="keys of a join are of one type"):
        large(folder).join(small(folder), "inner", 3, on=("id",), right_on=("x",)).take_all()
    with pytest.raises(Exception, match="there is no column 'missing'"):
        large(folder).join(small(folder), "inner", 3, on=("missing",), right_on=("k",)).take_all()

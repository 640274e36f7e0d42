"""A key that most rows have, in a session whose store has no room for these rows."""

from __future__ import annotations

import pytest

from runtime.running import one_node

pa = pytest.importorskip("pyarrow")
import numpy as np  # noqa: E402

import hpc.data  # noqa: E402
from hpc.exceptions import ObjectStoreFullError  # noqa: E402

MIB = 1 << 20
BLOCKS, ROWS = 18, 65_536
FREQUENT = 9 * ROWS // 10


def block(batch):
    """4 MiB: nine rows in ten have key 7."""
    first = int(batch["id"][0]) * ROWS
    key = np.where(np.arange(ROWS) < FREQUENT, 7, np.arange(ROWS) % 100)
    return {"k": key, "id": np.arange(first, first + ROWS), **{f"c{n}": np.ones(ROWS) for n in range(6)}}


def test_rows_of_a_key_that_do_not_fit_the_store_are_sorted_repartitioned_and_joined():
    with one_node(num_cpus=2, object_store_memory=64 * MIB):
        data = hpc.data.range(BLOCKS, override_num_blocks=BLOCKS).map_batches(block)
        before = None
        for found in data.sort("k").iter_batches(batch_size=None, batch_format="numpy"):
            order = found["k"].astype(np.int64) << 32 | found["id"]
            assert (np.diff(order) > 0).all() and (before is None or before < order[0]), (
                "in order, equal keys as before"
            )
            before = order[-1]
        keyed = data.repartition(4, keys=["k"])
        seen = [table.num_rows for table in keyed.iter_batches(batch_size=None, batch_format="pyarrow")]
        assert sum(seen) == BLOCKS * ROWS and max(seen) < BLOCKS * FREQUENT
        other = hpc.data.from_arrow(pa.table({"k": range(50), "name": range(50)}))
        joined = data.join(other, "inner", 4, on=("k",), left_suffix="_l").select_columns(["name"])
        counts = sum(
            np.bincount(found["name"], minlength=50)
            for found in joined.iter_batches(batch_size=None, batch_format="numpy")
        )
        key = block({"id": [0]})["k"]
        assert counts.tolist() == (BLOCKS * np.bincount(key)[:50]).tolist()
        groups = data.groupby("k").map_groups(lambda group: {"n": [len(group["k"])]})
        with pytest.raises(ObjectStoreFullError, match=r"(?s)of rows come to one task.*has no room.*add a second key"):
            groups.take_all()
        with pytest.raises(ObjectStoreFullError, match="full outer join each row must see all rows"):
            data.join(other, "full_outer", 4, on=("k",), left_suffix="_l").materialize()
        divided = data.with_column("part", hpc.data.expressions.col("id") % 8).groupby(["k", "part"])
        counts = divided.map_groups(lambda group: {"k": group["k"][:1], "n": [len(group["k"])]}).groupby("k").sum("n")
        assert {row["k"]: row["sum(n)"] for row in counts.iter_rows()}[7] >= BLOCKS * FREQUENT


def test_blocks_that_do_not_fit_the_store_are_several():
    with one_node(num_cpus=2, object_store_memory=64 * MIB):
        data = hpc.data.range(BLOCKS, override_num_blocks=BLOCKS).map_batches(block)

        def tables(dataset):
            return [table["id"].to_numpy() for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow")]

        for blocks in (1, 2):
            found = tables(data.repartition(blocks))
            assert blocks < len(found) <= 64 and max(map(len, found)) < BLOCKS * ROWS // 2
            assert (np.concatenate(found) == np.arange(BLOCKS * ROWS)).all(), "in their order"
        assert [len(some) for some in tables(data.repartition(18))] == [ROWS] * 18
        found = np.concatenate(tables(data.repartition(1, shuffle=True)))
        assert (found == np.arange(BLOCKS * ROWS)).all()

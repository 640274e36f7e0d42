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
        with pytest.raises(ObjectStoreFullError, match="no room"):
            data.groupby("k").map_groups(lambda group: {"n": [len(group["k"])]}).take_all()

"""Exchanges that the tasks which read their rows cut, as a store cannot hold them: the rows are those of others."""

from __future__ import annotations

import pytest

from runtime.running import one_node

pa = pytest.importorskip("pyarrow")
import numpy as np  # noqa: E402
import pyarrow.compute as pc  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

import hpc.data  # noqa: E402
from hpc.data.exec.budget import NodeRoom  # noqa: E402
from hpc.data.exec.build import build_operators  # noqa: E402
from hpc.data.exec.operators.cutting import CutExchangeOperator  # noqa: E402
from hpc.data.exec.settings import RunSettings  # noqa: E402
from hpc.data.expressions import col  # noqa: E402

MIB = 1 << 20
FILES, ROWS = 6, 50_000


@pytest.fixture(scope="module", autouse=True)
def session():
    with one_node(num_cpus=2, object_store_memory=32 * MIB):
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """30 MB of rows, in row groups of uneven sizes."""
    made = tmp_path_factory.mktemp("cuts")
    for number in range(FILES):
        rng = np.random.default_rng(number)
        ids = np.arange(ROWS) + number * ROWS
        table = pa.table({"few": rng.integers(0, 5, ROWS), "id": ids, **{f"c{i}": rng.random(ROWS) for i in range(10)}})
        pq.write_table(table, made / f"{number}.parquet", row_group_size=7_000 + 9_000 * number)
    return made


def read(folder, **options):
    return hpc.data.read_parquet(sorted(map(str, folder.glob("*.parquet"))), **options)


def whole(folder):
    return pa.concat_tables([pq.read_table(path) for path in sorted(folder.glob("*.parquet"))])


def ids(data):
    return [
        one for batch in data.iter_batches(batch_size=None, batch_format="pyarrow") for one in batch["id"].to_pylist()
    ]


def is_cut(data):
    """Whether the rows are cut as they are read, in a session with such a store."""
    rooms = {"": NodeRoom(2, 0, 32 * MIB, 1 << 40)}
    ops, _ = build_operators(data.plan, data.context, RunSettings(target_bytes=MIB), rooms)
    return any(isinstance(op, CutExchangeOperator) for op in ops)


def test_rows_with_equal_keys_stay_in_the_order_of_the_files(folder):
    """Of 5 keys: places in the input divide the rows of each."""
    found, table = read(folder).sort("few"), whole(folder)
    assert is_cut(found)
    order = pc.sort_indices(table, sort_keys=[("few", "ascending"), ("id", "ascending")])
    assert ids(found) == table["id"].take(order).to_pylist()


def test_filters_and_new_columns_are_seen_by_the_samples(folder):
    found = read(folder).filter(expr=col("c1") < 0.5).with_column("both", col("c0") + col("few"))
    found, table = found.rename_columns({"both": "key"}).sort("key", descending=True), whole(folder)
    assert is_cut(found)
    table = table.filter(pc.less(table["c1"], 0.5))
    order = pc.array_sort_indices(pc.add(table["c0"], table["few"]), order="descending")
    assert ids(found) == table["id"].take(order).to_pylist()


def test_a_function_of_the_user_runs_once_for_each_row(folder):
    data = read(folder).map_batches(lambda batch: {"id": batch["id"], "key": batch["c0"], "c": batch["c1"]})
    assert not is_cut(data.sort("key")), "samples would call it once more"
    assert sorted(ids(data.random_shuffle())) == list(range(FILES * ROWS))


def test_an_order_by_a_seed_is_that_of_blocks(folder):
    found = read(folder).random_shuffle(seed=5)
    assert is_cut(found)
    before = read(folder, override_num_blocks=3).materialize().random_shuffle(seed=5)
    assert ids(found) == ids(before)


def test_where_the_rows_of_parts_are_not_known_a_seed_has_blocks_cut(folder):
    found = read(folder).filter(expr=col("few") < 4).random_shuffle(seed=5)
    table = whole(folder)
    assert sorted(ids(found)) == table["id"].filter(pc.less(table["few"], 4)).to_pylist()


def test_partitions_by_keys_are_those_of_blocks(folder):
    found = read(folder).repartition(4, keys=["few"])
    assert is_cut(found)
    assert sorted(ids(found)) == list(range(FILES * ROWS))


def test_few_rows_and_first_rows_are_not_cut(folder):
    few = hpc.data.read_parquet(str(folder / "0.parquet"))
    assert not is_cut(few.sort("id")), "the store has room for them"
    assert not is_cut(read(folder).sort("c0").limit(10))


def test_a_damaged_file_counts_once(folder, tmp_path):
    for path in folder.glob("*.parquet"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    damaged = tmp_path / "2.parquet"
    data = bytearray(damaged.read_bytes())
    half = len(data) // 2
    data[half : half + 400_000] = bytes(400_000)  # values, and not the footer
    damaged.write_bytes(data)
    found = read(tmp_path).sort("c0")
    found.context.max_errored_blocks = 1  # a part of one file or two, which fails as samples are read
    left = ids(found)
    assert is_cut(found) and 0 < FILES * ROWS - len(left) <= 2 * ROWS and len(set(left)) == len(left)


def test_an_empty_and_a_missing_column(folder):
    nothing = read(folder).filter(expr=col("c0") > 2.0)
    assert ids(nothing.sort("c1")) == []
    with pytest.raises(Exception, match="absent"):
        read(folder).sort("absent").take(1)

"""Tables of other systems, by their own packages: what is read, and writes that count each row once."""

from __future__ import annotations

import glob
import os
import signal
from datetime import date

import pyarrow as pa
import pytest

import hpc
import hpc.data
from hpc.data.expressions import col
from runtime.running import one_node


@pytest.fixture(scope="module", autouse=True)
def session():
    with one_node():
        yield


def numbers(count, first=0, blocks=2):
    table = pa.table({"a": list(range(first, first + count)), "t": [f"x{n % 3}" for n in range(count)]})
    return hpc.data.from_arrow(table, override_num_blocks=blocks)


def killed_once(folder):
    """A function whose first call with row 7 ends its worker."""

    def function(batch):
        if 7 in batch["a"] and not os.path.exists(f"{folder}/killed"):
            open(f"{folder}/killed", "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return batch

    return function


def failing(batch):
    if 7 in batch["a"]:
        raise RuntimeError("no")
    return batch


def values(dataset, name="a"):
    return sorted(row[name] for row in dataset.take_all())


# ---------------------------------------------------------------- Lance


def test_lance_datasets_are_written_by_one_commit(tmp_path):
    lance = pytest.importorskip("lance", reason="needs pylance")
    uri = str(tmp_path / "a.lance")
    few = {"min_rows_per_file": 1}
    numbers(10).map_batches(killed_once(tmp_path)).write_lance(uri, **few)
    assert values(hpc.data.read_lance(uri)) == list(range(10))
    with pytest.raises(ValueError, match="exists"):
        numbers(1).write_lance(uri)
    numbers(5, 10).write_lance(uri, mode="append", **few)
    assert lance.dataset(uri).version == 2
    assert values(hpc.data.read_lance(uri)) == list(range(15))
    assert values(hpc.data.read_lance(uri, version=1)) == list(range(10))
    with pytest.raises(Exception, match="no"):
        numbers(10).map_batches(failing).write_lance(uri, mode="overwrite", **few)
    assert lance.dataset(uri).version == 2
    hpc.data.from_items([{"b": 1.5}]).write_lance(uri, mode="overwrite")
    assert hpc.data.read_lance(uri).take_all() == [{"b": 1.5}]
    with pytest.raises(Exception, match=r"no columns \['c'\]"):
        hpc.data.from_items([{"c": 1}]).write_lance(uri, mode="append")


# ---------------------------------------------------------------- Delta


def test_delta_tables_are_written_by_one_commit(tmp_path):
    deltalake = pytest.importorskip("deltalake", reason="needs deltalake")
    path = str(tmp_path / "table")
    numbers(10).map_batches(killed_once(tmp_path)).write_delta(path, name="n", description="d")
    assert values(hpc.data.read_delta(path)) == list(range(10))
    numbers(5, 10).write_delta(path)
    table = deltalake.DeltaTable(path)
    assert (table.version(), table.metadata().name) == (1, "n")
    assert sorted(table.to_pyarrow_table()["a"].to_pylist()) == list(range(15))
    files = glob.glob(f"{path}/*.parquet")
    with pytest.raises(Exception, match="no"):
        numbers(10).map_batches(failing).write_delta(path, mode="overwrite")
    assert glob.glob(f"{path}/*.parquet") == files
    assert deltalake.DeltaTable(path).version() == 1
    numbers(2).write_delta(path, mode="overwrite")
    assert values(hpc.data.read_delta(path)) == [0, 1]
    assert values(hpc.data.read_delta(path, 0)) == list(range(10))
    with pytest.raises(ValueError, match="mode"):
        numbers(1).write_delta(path, mode="ignore")


def test_columns_of_delta_tables_are_added_or_refused(tmp_path):
    deltalake = pytest.importorskip("deltalake", reason="needs deltalake")
    path = str(tmp_path / "table")
    hpc.data.from_items([{"a": 1}]).write_delta(path)
    with pytest.raises(Exception, match="schema_mode='merge'"):
        hpc.data.from_items([{"a": 2, "b": "x"}]).write_delta(path, schema_mode="error")
    hpc.data.from_items([{"a": 2, "b": "x"}]).write_delta(path)
    found = sorted(deltalake.DeltaTable(path).to_pyarrow_table().to_pylist(), key=lambda row: row["a"])
    assert found == [{"a": 1, "b": None}, {"a": 2, "b": "x"}]
    with pytest.raises(Exception, match="column 'a' of the data is string"):
        hpc.data.from_items([{"a": "text"}]).write_delta(path)


def test_partitions_of_delta_tables_keep_their_values(tmp_path):
    deltalake = pytest.importorskip("deltalake", reason="needs deltalake")
    path = str(tmp_path / "table")
    days = [date(2024, 1, 1), date(2024, 1, 2), None]
    rows = [{"a": n, "p": ["x y/z%", "ü=1", None][n % 3], "d": days[n % 3]} for n in range(6)]
    hpc.data.from_items(rows).write_delta(path, partition_by=["p", "d"])
    table = deltalake.DeltaTable(path)
    assert sorted(table.to_pyarrow_table().to_pylist(), key=lambda row: row["a"]) == rows
    found = sorted(hpc.data.read_delta(path).take_all(), key=lambda row: row["a"])
    assert found == rows
    assert table.to_pyarrow_table(filters=[("a", ">", 4)])["a"].to_pylist() == [5]
    with pytest.raises(ValueError, match="partitioned by"):
        hpc.data.from_items(rows).write_delta(path, partition_by=["d"])


# ---------------------------------------------------------------- Iceberg


@pytest.fixture
def iceberg(tmp_path):
    """A catalog in a folder, with arguments for tables of it."""
    catalog = pytest.importorskip("pyiceberg.catalog", reason="needs pyiceberg")
    pytest.importorskip("sqlalchemy", reason="needs pyiceberg[sql-sqlite]")
    given = {"name": "c", "type": "sql", "uri": f"sqlite:///{tmp_path}/c.db", "warehouse": f"file://{tmp_path}/w"}
    made = catalog.load_catalog(**given)
    made.create_namespace("n")
    return made, {"catalog_kwargs": given}


def test_iceberg_tables_are_written_by_one_commit(tmp_path, iceberg):
    catalog, given = iceberg
    table = catalog.create_table("n.t", pa.schema([("a", pa.int64()), ("t", pa.string())]))
    numbers(10).map_batches(killed_once(tmp_path)).write_iceberg("n.t", **given, snapshot_properties={"k": "v"})
    table.refresh()
    assert len(table.snapshots()) == 1
    assert table.current_snapshot().summary["k"] == "v"
    first = table.current_snapshot().snapshot_id
    read = {"table_identifier": "n.t", **given}
    dataset = hpc.data.read_iceberg(**read)
    numbers(5, 10).write_iceberg("n.t", **given)
    assert values(dataset) == list(range(10))
    assert values(hpc.data.read_iceberg(**read)) == list(range(15))
    assert hpc.data.read_iceberg(**read).count() == 15
    assert values(hpc.data.read_iceberg(**read, snapshot_id=first)) == list(range(10))
    files = glob.glob(f"{tmp_path}/w/n/t/data/*")
    with pytest.raises(Exception, match="no"):
        numbers(10).map_batches(failing).write_iceberg("n.t", mode="overwrite", **given)
    assert glob.glob(f"{tmp_path}/w/n/t/data/*") == files
    numbers(2, 100).write_iceberg("n.t", mode="overwrite", overwrite_filter=col("a") >= 3, **given)
    assert values(hpc.data.read_iceberg(**read)) == [0, 1, 2, 100, 101]
    numbers(2).write_iceberg("n.t", mode="overwrite", **given)
    assert values(hpc.data.read_iceberg(**read)) == [0, 1]


def test_reads_of_iceberg_tables_take_columns_filters_and_limits(iceberg):
    catalog, given = iceberg
    transforms = pytest.importorskip("pyiceberg.transforms")
    table = catalog.create_table("n.t", pa.schema([("a", pa.int64()), ("t", pa.string()), ("f", pa.float64())]))
    with table.update_spec() as update:
        update.add_field("t", transforms.IdentityTransform(), "t")
    rows = [{"a": n, "t": f"x{n % 3}", "f": None if n % 2 else float("nan")} for n in range(12)]
    hpc.data.from_items(rows).write_iceberg("n.t", **given)
    read = {"table_identifier": "n.t", **given}
    whole = hpc.data.read_iceberg(**read)
    assert values(whole) == list(range(12))
    assert values(hpc.data.read_iceberg(**read, row_filter="t = 'x1'")) == [1, 4, 7, 10]
    assert len(hpc.data.read_iceberg(**read, row_filter="t = 'x1'").input_files()) == 1
    assert values(whole.filter(expr=(col("t") == "x1") & (col("a") > 4))) == [7, 10]
    assert values(whole.filter(expr=col("f").is_null())) == [1, 3, 5, 7, 9, 11]
    assert values(whole.filter(expr=col("t") != "x1").select_columns(["a"])) == [0, 2, 3, 5, 6, 8, 9, 11]
    assert whole.filter(expr=col("a") < 2).count() == 2
    assert hpc.data.read_iceberg(**read, selected_fields=("t",)).schema().names == ["t"]
    assert hpc.data.read_iceberg(**read, scan_kwargs={"limit": 5}).count() == 5
    with pytest.raises(Exception, match=r"no column \['z'\]"):
        whole.select_columns(["z"]).take_all()


def test_iceberg_tables_get_columns_and_take_upserts(iceberg):
    catalog, given = iceberg
    catalog.create_table("n.t", pa.schema([("a", pa.int64()), ("t", pa.string())]))
    numbers(10).write_iceberg("n.t", **given)
    read = {"table_identifier": "n.t", **given}
    new = [{"a": n, "t": "new", "more": n / 2} for n in (3, 4, 30)]
    upsert = {"mode": "upsert", "upsert_kwargs": {"join_cols": ["a"]}, **given}
    hpc.data.from_items(new).write_iceberg("n.t", **upsert)
    found = {row["a"]: row for row in hpc.data.read_iceberg(**read).take_all()}
    assert sorted(found) == [*range(10), 30]
    assert [found[row["a"]] for row in new] == new
    assert found[5] == {"a": 5, "t": "x2", "more": None}
    with pytest.raises(ValueError, match="several rows"):
        hpc.data.from_items([new[0], new[0]]).write_iceberg("n.t", **upsert)
    with pytest.raises(ValueError, match="join_cols"):
        hpc.data.from_items(new).write_iceberg("n.t", mode="upsert", **given)
    with pytest.raises(ValueError, match="for mode='overwrite'"):
        hpc.data.from_items(new).write_iceberg("n.t", overwrite_filter=col("a") == 1, **given)
    with pytest.raises(Exception, match="'a' of the data"):
        hpc.data.from_items([{"a": "text"}]).write_iceberg("n.t", **given)

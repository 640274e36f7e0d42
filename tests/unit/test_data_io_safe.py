"""What a broken write leaves, what a write that goes on trusts, and how many files are open."""

from __future__ import annotations

import gzip
import os
import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from io_reading import rows, source, written

from hpc.data.expressions import col
from hpc.data.io import writers
from hpc.data.io.csv_files import CsvFormat
from hpc.data.io.filesink import FileSink, partitioned
from hpc.data.io.parquet_file import ParquetFormat
from hpc.data.io.partitioning import Partitioning, PartitionStyle
from hpc.data.io.text_files import TextFormat
from hpc.data.transform.base import TaskContext

TABLE = pa.table({"id": [1, 2]})


def names(path):
    return sorted(os.path.relpath(os.path.join(d, f), path) for d, _, fs in os.walk(path) for f in fs)


def run(sink, index, tables, write_id="W"):
    return list(sink.transform(write_id)(iter(tables), TaskContext(index=index)))


def parquet(path, **args):
    return FileSink(str(path), writers.ParquetWriter(), **args)


# ---------------------------------------------------------------- an overwrite that fails


def test_an_overwrite_that_fails_leaves_the_old_files_alone(tmp_path):
    for name in ("old.parquet", ".part-other-1"):
        written(tmp_path / name, "old")
    sink = parquet(tmp_path, mode="overwrite")
    sink.begin(None)
    run(sink, 0, [TABLE])
    assert len(names(tmp_path)) == 3
    sink.failed(RuntimeError("a task"))
    assert names(tmp_path) == [".part-other-1", "old.parquet"]


def test_an_overwrite_leaves_unfinished_files_of_other_writes_and_misses_no_file(tmp_path):
    for name in ("a.parquet", "b.parquet", ".part-other-1"):
        written(tmp_path / name, "old")
    sink = parquet(tmp_path, mode="overwrite")
    sink.begin(None)
    results = run(sink, 0, [TABLE])
    (tmp_path / "a.parquet").unlink()
    sink.complete(results)
    assert names(tmp_path) == [".part-other-1", "W_000000-0.parquet"]


def test_new_files_stay_when_the_end_of_an_overwrite_fails(tmp_path, monkeypatch):
    written(tmp_path / "a.parquet", "old")
    sink = parquet(tmp_path, mode="overwrite")
    sink.begin(None)
    results = run(sink, 0, [TABLE])
    monkeypatch.setattr(type(sink.folder), "sweep", lambda *_: None)
    sink.complete(results)
    sink.failed(OSError("the disk"))
    assert names(tmp_path) == ["W_000000-0.parquet"]


def test_a_write_that_never_began_removes_nothing(tmp_path):
    written(tmp_path / ".part-other-1", "x")
    sink = parquet(tmp_path, mode="overwrite")
    sink.begin(None)
    sink.failed(RuntimeError("the plan"))
    assert names(tmp_path) == [".part-other-1"]


# ---------------------------------------------------------------- a write that goes on


@pytest.fixture
def going(tmp_path):
    """The source, and a function that runs so many tasks of what is left; it returns the texts that they read."""
    for i in range(4):
        written(tmp_path / "in" / f"{i}.txt", f"{i}\n")
    read = source(TextFormat(), str(tmp_path / "in"))

    def go(tasks=None, part=False):
        sink = FileSink(str(tmp_path / "out"), writers.CsvWriter(), resume=True)
        left = read.without(sink.ledger.begin())
        sink.begin(None)
        transform = pickle.loads(pickle.dumps(sink.transform("W")))
        results, texts = [], []
        for index, task in enumerate(left.tasks(4)):
            if index == tasks:
                if part:
                    files = sink.folder.begin("x.csv", transform.write_id)
                    files.close()
                return texts
            context = TaskContext(index=index)
            tables = list(task.read(context))
            results += transform(iter(tables), context)
            texts += [text for table in tables for text in table["text"].to_pylist()]
        sink.complete(results)
        return texts

    return go


def result(path):
    return sorted(row["text"] for row in rows(source(CsvFormat(), [str(p) for p in path.glob("*.csv")])))


def test_unfinished_files_of_a_killed_driver_are_removed(tmp_path, going):
    going(tasks=1, part=True)
    assert any(name.startswith(".part-") for name in names(tmp_path / "out"))
    going()
    assert not any(name.startswith(".part-") for name in names(tmp_path / "out"))


@pytest.mark.parametrize("ended", [False, True])
def test_what_is_missing_of_a_write_is_written_again(tmp_path, going, ended):
    going(tasks=None if ended else 2)
    sorted((tmp_path / "out").glob("*.csv"))[0].unlink()
    again = going()
    assert len(again) == (1 if ended else 3), "nothing else is read again"
    assert result(tmp_path / "out") == [0, 1, 2, 3]
    assert not going()


def test_a_source_that_changed_is_told(tmp_path, going):
    going(tasks=2)
    written(tmp_path / "in" / "3.txt", "33\n")
    assert going(tasks=1) == ["2"], "a file that was not read yet may be another one"
    written(tmp_path / "in" / "0.txt", "other\n")
    with pytest.raises(ValueError, match=r"0\.txt has changed since"):
        going()


# ---------------------------------------------------------------- files


def test_files_are_closed_when_they_are_whole(tmp_path):
    opened = []
    sink = parquet(tmp_path, max_rows_per_file=1)
    begin = sink.folder.begin
    sink.folder.begin = lambda *args: opened.append(begin(*args)) or opened[-1]

    def tables():
        for number in range(3):
            yield pa.table({"id": [number]})
            assert sum(not output.raw.closed for output in opened) <= 1

    sink.begin(None)
    files = sink.transform("W")
    files.folder = sink.folder
    import hpc.data.io.filesink as module

    saved, module.GATHERED = module.GATHERED, 1
    try:
        (found,) = files(tables(), TaskContext(index=0))
    finally:
        module.GATHERED = saved
    assert len(opened) == 3 and found["bytes"].to_pylist() == [os.path.getsize(p) for p in found["path"].to_pylist()]


def test_the_size_of_a_compressed_file_is_told(tmp_path):
    sink = FileSink(str(tmp_path), writers.CsvWriter(), open_stream_args={"compression": "gzip"})
    sink.begin(None)
    (found,) = run(sink, 0, [TABLE])
    (path,) = found["path"].to_pylist()
    assert found["bytes"].to_pylist() == [os.path.getsize(path)]
    assert gzip.open(path).read().startswith(b'"id"')


def test_rows_of_each_partition_are_in_order_whatever_the_type_of_its_column():
    table = pa.table({
        "p": pa.array(["x", "y", None, "x", "y"]).dictionary_encode(),
        "q": [0.0, 1.5, 2.0, -0.0, 1.5],
        "v": list(range(5)),
    })  # fmt: skip
    found = {folder: part["v"].to_pylist() for folder, part in partitioned(table, ("p", "q"))}
    assert found == {"p=x/q=0.0": [0, 3], "p=y/q=1.5": [1, 4], "p=__HIVE_DEFAULT_PARTITION__/q=2.0": [2]}


def test_null_comes_back_from_the_folders_of_a_partition(tmp_path):
    table = pa.table({"p": [1, None], "v": [1, 2]})
    sink = parquet(tmp_path, partition_cols=["p"])
    sink.begin(None)
    run(sink, 0, [table])
    read = source(
        ParquetFormat(), str(tmp_path), partitioning=Partitioning(PartitionStyle.HIVE, field_types={"p": int})
    )
    assert sorted(rows(read), key=lambda row: row["v"]) == [{"v": 1, "p": 1}, {"v": 2, "p": None}]
    texts = source(ParquetFormat(), str(tmp_path), partitioning=Partitioning(PartitionStyle.HIVE))
    for filters, wanted in (
        ([(texts, col("p").str.contains("1"))], [1]),
        ([(read, col("p") > 0)], [1]),
        ([(read, col("p").is_null()), (texts, col("p").is_null())], [2]),
    ):
        for full, condition in filters:
            left = full.with_filter(condition)
            assert [row["v"] for row in rows(left)] == wanted and len(left.files()) == 1, "other files are not read"


# ---------------------------------------------------------------- pickles of others


def test_objects_inside_of_other_columns_are_not_unpickled(tmp_path):
    from hpc.data.block import objects

    cells = objects.from_cells([{1}, {2}])
    kinds = {
        "struct": pa.StructArray.from_arrays([cells], ["x"]),
        "list": pa.ListArray.from_arrays([0, 1, 2], cells),
        "deep": pa.ListArray.from_arrays([0, 1, 2], pa.StructArray.from_arrays([cells], ["x"])),
        "map": pa.MapArray.from_arrays([0, 1, 2], pa.array(["a", "b"]), cells),
    }
    assert not objects.has_object(pa.struct([("x", pa.list_(pa.dictionary(pa.int8(), pa.string())))]))
    assert objects.has_object(pa.map_(pa.string(), pa.list_(cells.type, 2)))
    for name, column in kinds.items():
        pq.write_table(pa.table({"ok": [1, 2], "bad": column}), tmp_path / f"{name}.parquet")
        read = source(ParquetFormat(), str(tmp_path / f"{name}.parquet"))
        with pytest.raises(ValueError, match="pickled objects"):
            rows(read)
        assert rows(read.with_columns(["ok"])) == [{"ok": 1}, {"ok": 2}]

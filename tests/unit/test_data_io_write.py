"""Writes to files: names, modes, rows for each file, partitions, what is visible when, and a write that goes on."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from io_reading import rows, source, tables, written

from hpc import cloudpickle
from hpc.data.block.accessor import BlockMetadata
from hpc.data.io import write_api, writers
from hpc.data.io.binary_files import NumpyFormat
from hpc.data.io.csv_files import CsvFormat
from hpc.data.io.datasink import BlockBasedFileDatasink, Datasink, RowBasedFileDatasink
from hpc.data.io.datasource import Datasource, FileBasedDatasource, ReadTask
from hpc.data.io.filenames import FilenameProvider
from hpc.data.io.filesink import FileSink
from hpc.data.io.grouping import without
from hpc.data.io.json_files import JsonFormat
from hpc.data.io.memory import RangeSource
from hpc.data.io.text_files import TextFormat
from hpc.data.transform.base import TaskContext

TABLES = [pa.table({"id": [0, 1, 2, 3, 4]}), pa.table({"id": [5, 6, 7, 8, 9]})]


def write(sink, tasks, write_id="W"):
    """What the executor does, in this process: each item is what one task writes."""
    if not sink.begin(None):
        return None
    transform = cloudpickle.loads(cloudpickle.dumps(sink.transform(write_id)))
    results = []
    try:
        for index, found in enumerate(tasks):
            results += transform(iter([found] if isinstance(found, pa.Table) else found), TaskContext(index=index))
    except BaseException as error:
        sink.failed(error)
        raise
    sink.complete(results)
    return pa.concat_tables(results)


def names(path):
    return sorted(os.path.relpath(os.path.join(d, f), path) for d, _, fs in os.walk(path) for f in fs)


def parquet(path, **args):
    return FileSink(str(path), writers.ParquetWriter(), **args)


def test_a_file_for_each_task_with_a_name_of_the_write_and_the_task(tmp_path):
    result = write(parquet(tmp_path / "o"), TABLES)
    assert names(tmp_path / "o") == ["W_000000-0.parquet", "W_000001-0.parquet"]
    assert result["rows"].to_pylist() == [5, 5]
    assert result["path"].to_pylist() == [str(tmp_path / "o" / name) for name in names(tmp_path / "o")]
    assert result["bytes"].to_pylist() == [os.path.getsize(path) for path in result["path"].to_pylist()]
    assert pq.read_table(tmp_path / "o")["id"].to_pylist() == list(range(10))


def test_modes(tmp_path):
    path = tmp_path / "o"
    write(parquet(path), TABLES, "A")
    write(parquet(path, mode="append"), TABLES, "B")
    assert len(names(path)) == 4
    for mode in ("error", "create"):
        with pytest.raises(ValueError, match="exists"):
            write(parquet(path, mode=mode), TABLES)
    assert write(parquet(path, mode="ignore"), TABLES) is None and len(names(path)) == 4
    write(parquet(path, mode="overwrite"), TABLES, "C")
    assert names(path) == ["C_000000-0.parquet", "C_000001-0.parquet"]
    for mode in ("upsert", "nope"):
        with pytest.raises(ValueError, match="mode"):
            parquet(path, mode=mode)


def test_an_overwrite_that_fails_leaves_what_was_there(tmp_path):
    write(parquet(tmp_path), TABLES, "A")

    def broken():
        yield TABLES[0]
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        write(parquet(tmp_path, mode="overwrite"), [broken()], "B")
    assert names(tmp_path) == ["A_000000-0.parquet", "A_000001-0.parquet"]


def test_nothing_is_visible_before_a_task_has_ended_and_parts_of_killed_attempts_go(tmp_path):
    sink = parquet(tmp_path)
    sink.begin(None)
    transform = sink.transform("W")
    seen = []

    def two():
        yield pa.table({"id": np.arange(6_000_000)})  # Beyond what is gathered before a file begins.
        seen.append(names(tmp_path))
        yield pa.table({"id": [1]})

    written(tmp_path / ".part-W-killed", "x")
    written(tmp_path / ".part-other", "x")
    result = list(transform(two(), TaskContext()))
    assert all(name.startswith(".part-") for name in seen[0]) and len(seen[0]) == 3
    sink.complete(result)
    assert names(tmp_path) == [".part-other", "W_000000-0.parquet"]


def test_a_second_attempt_replaces_the_first(tmp_path):
    for _ in range(2):
        write(parquet(tmp_path), TABLES)
    assert len(names(tmp_path)) == 2 and pq.read_table(tmp_path).num_rows == 10


def test_rows_for_each_file(tmp_path):
    write(parquet(tmp_path / "max", max_rows_per_file=2), TABLES)
    assert [pq.read_metadata(tmp_path / "max" / name).num_rows for name in names(tmp_path / "max")] == [2, 2, 1] * 2
    assert names(tmp_path / "max")[2] == "W_000000-2.parquet"
    assert parquet(tmp_path, min_rows_per_file=7).min_rows_per_write == 7
    with pytest.raises(ValueError, match="cannot be greater"):
        parquet(tmp_path, min_rows_per_file=10, max_rows_per_file=5)
    with pytest.raises(ValueError, match="above 0"):
        parquet(tmp_path, max_rows_per_file=0)


def test_partitions_are_folders(tmp_path):
    table = pa.table({"p": [1, 2, 1, None], "q": ["a b", "x", "a b", "y"], "v": [1, 2, 3, 4]})
    write(parquet(tmp_path, partition_cols=["p", "q"]), [table])
    assert names(tmp_path) == [
        "p=1/q=a%20b/W_000000-0.parquet",
        "p=2/q=x/W_000000-0.parquet",
        "p=__HIVE_DEFAULT_PARTITION__/q=y/W_000000-0.parquet",
    ]
    assert pq.read_table(tmp_path / "p=1", partitioning=None)["v"].to_pylist() == [1, 3]
    with pytest.raises(KeyError, match="zz"):
        write(parquet(tmp_path / "bad", partition_cols=["zz"]), [table])
    assert not (tmp_path / "bad").exists(), "a folder that a failed write has made and left empty goes"


def test_more_partitions_than_files_may_be_open(tmp_path, monkeypatch):
    monkeypatch.setattr("hpc.data.io.filesink.OPEN", 3)
    monkeypatch.setattr("hpc.data.io.filesink.GATHERED", 1)
    parts = [pa.table({"p": [i % 5], "v": [i]}) for i in range(20)]
    write(parquet(tmp_path, partition_cols=["p"]), [parts])
    found = pq.read_table(tmp_path, partitioning="hive")
    assert sorted(found["v"].to_pylist()) == list(range(20))


def test_schemas_of_a_task_meet_or_make_files(tmp_path, monkeypatch):
    parts = [pa.table({"a": pa.nulls(1)}), pa.table({"a": [1]}), pa.table({"a": [2], "b": ["x"]})]
    write(parquet(tmp_path / "one"), [parts])
    assert pq.read_table(tmp_path / "one").to_pylist() == [
        {"a": None, "b": None},
        {"a": 1, "b": None},
        {"a": 2, "b": "x"},
    ]
    monkeypatch.setattr("hpc.data.io.filesink.GATHERED", 1)
    write(parquet(tmp_path / "two"), [[pa.table({"a": [1]}), pa.table({"a": [1.5]}), pa.table({"a": [2.5]})]])
    assert [pq.read_table(tmp_path / "two" / name)["a"].to_pylist() for name in names(tmp_path / "two")] == [
        [1],
        [1.5, 2.5],
    ]


def test_small_tables_become_large_row_groups(tmp_path):
    write(parquet(tmp_path), [[pa.table({"a": [i]}) for i in range(100)]])
    assert pq.read_metadata(tmp_path / names(tmp_path)[0]).num_row_groups == 1
    sink = FileSink(str(tmp_path / "g"), writers.ParquetWriter({"row_group_size": 30}))
    write(sink, [[pa.table({"a": [i]}) for i in range(100)]])
    meta = pq.read_metadata(tmp_path / "g" / names(tmp_path / "g")[0])
    assert [meta.row_group(i).num_rows for i in range(meta.num_row_groups)] == [30, 30, 30, 10]


def test_csv_json_and_numpy(tmp_path):
    table = pa.table({"a": [1, None], "s": ["x", "y"]})
    write(FileSink(str(tmp_path / "c"), writers.CsvWriter()), [[table, table]])
    assert (tmp_path / "c" / "W_000000.csv").read_text() == '"a","s"\n1,"x"\n,"y"\n1,"x"\n,"y"\n'
    assert rows(source(CsvFormat(), str(tmp_path / "c")))[3] == {"a": None, "s": "y"}
    write(FileSink(str(tmp_path / "j"), writers.JsonWriter()), [[table, table]])
    lines = (tmp_path / "j" / "W_000000.json").read_text().splitlines()
    assert list(map(json.loads, lines)) == [{"a": 1, "s": "x"}, {"a": None, "s": "y"}] * 2
    assert len(rows(source(JsonFormat(), str(tmp_path / "j")))) == 4
    write(FileSink(str(tmp_path / "r"), writers.JsonWriter({"lines": False})), [[table, table]])
    assert len(json.loads((tmp_path / "r" / "W_000000.json").read_text())) == 4
    write(FileSink(str(tmp_path / "n"), writers.NumpyWriter("id")), TABLES)
    assert np.load(tmp_path / "n" / "W_000000.npy").tolist() == [0, 1, 2, 3, 4]
    assert len(rows(source(NumpyFormat(), str(tmp_path / "n")))) == 10
    with pytest.raises(ValueError, match="'zz'"):
        write(FileSink(str(tmp_path / "z"), writers.NumpyWriter("zz")), TABLES)
    with pytest.raises(ValueError, match="'l'"):
        write(FileSink(str(tmp_path / "z"), writers.CsvWriter()), [pa.table({"l": [[1]]})])
    assert names(tmp_path) == [name for name in names(tmp_path) if "part" not in name]


def test_compressed_streams(tmp_path):
    write(FileSink(str(tmp_path), writers.CsvWriter(), open_stream_args={"compression": "gzip"}), TABLES)
    os.rename(tmp_path / "W_000000.csv", tmp_path / "a.csv.gz")
    assert len(rows(source(CsvFormat(), str(tmp_path / "a.csv.gz")))) == 5


def test_images_are_a_file_for_each_row(tmp_path):
    from PIL import Image

    from hpc.data.block import build

    images = [np.full((4, 3, 3), i, np.uint8) for i in range(3)]
    write(FileSink(str(tmp_path), writers.ImageWriter("image")), [build.table({"image": np.stack(images)}, "test")])
    assert names(tmp_path) == [f"W_000000_000000_{i:06}.png" for i in range(3)]
    assert np.asarray(Image.open(tmp_path / names(tmp_path)[2])).tolist() == images[2].tolist()


def test_an_empty_write_leaves_no_folder(tmp_path):
    write(parquet(tmp_path / "o"), [[], [TABLES[0].slice(0, 0)]])
    assert not (tmp_path / "o").exists()


def test_names_of_a_provider(tmp_path):
    class Mine(FilenameProvider):
        def get_filename_for_task(self, write_uuid, task_index):
            return f"x_{task_index}.csv"

    write(FileSink(str(tmp_path), writers.CsvWriter(), filename_provider=Mine()), TABLES)
    assert names(tmp_path) == ["x_0.csv", "x_1.csv"]
    assert FilenameProvider("D", "csv").get_filename_for_task("U", 3) == "D_U_000003.csv"
    assert FilenameProvider().get_filename_for_task("U", 3) == "U_000003"


# ---------------------------------------------------------------- a write that goes on


def go_on(sink, read, parallelism, tasks=None, die=None):
    """Run as many tasks of what is left; ``die`` ends the last of them before its entry in the ledger."""
    sink.begin(None)
    left = read.without(sink.ledger.begin())
    transform = pickle.loads(pickle.dumps(sink.transform("W")))
    results = []
    for index, task in enumerate(left.tasks(parallelism)):
        context = TaskContext(index=index)
        if index == tasks:
            if die is not None:
                transform.ledger.record = die
                with pytest.raises(InterruptedError):
                    list(transform(task.read(context), context))
            return results
        results += transform(task.read(context), context)
    sink.complete(results)
    return results


def killed(task, paths):
    raise InterruptedError


@pytest.mark.parametrize("parallelism", [(4, 4), (4, 7), (5, 2)])
def test_a_killed_write_goes_on_and_repeats_nothing(tmp_path, parallelism):
    first, second = parallelism
    read = RangeSource(1000)
    go_on(parquet(tmp_path, resume=True), read, first, tasks=2, die=killed)
    assert len(names(tmp_path)) == 2 + 1 + 3, "two tasks with entries, one without, and the ledger's id"
    sink = parquet(tmp_path, resume=True)
    again = go_on(sink, read, second)
    assert sum(table["rows"].to_pylist()[0] for table in again) < 1000
    files = [name for name in names(tmp_path) if name.endswith("parquet")]
    found = sorted(v for name in files for v in pq.read_table(tmp_path / name)["id"].to_pylist())
    assert found == list(range(1000))
    assert not go_on(parquet(tmp_path, resume=True), read, 3), "nothing is left"


def test_files_and_pieces_of_files_are_not_read_again(tmp_path):
    for i in range(10):
        written(tmp_path / "in" / f"{i}.txt", f"{i}a\n{i}b\n")
    read = source(TextFormat(), str(tmp_path / "in"))
    sink = FileSink(str(tmp_path / "out"), writers.CsvWriter(), resume=True)
    go_on(sink, read, 5, tasks=2)
    left = read.without(sink.ledger.begin())
    assert [row["text"] for row in rows(left)] == [f"{i}{c}" for i in range(4, 10) for c in "ab"]
    part = read.without([(str(tmp_path / "in" / "0.txt"), 0, 3)])
    assert [row["text"] for row in rows(part)][:2] == ["0b", "1a"]


def test_a_ledger_is_compact_when_a_write_has_ended(tmp_path):
    go_on(parquet(tmp_path, resume=True), RangeSource(100), 10)
    assert [name for name in names(tmp_path) if name.startswith("_ledger")] == ["_ledger/done.json", "_ledger/id.json"]
    assert not list(RangeSource(100).without(parquet(tmp_path, resume=True).ledger.begin()).tasks(3))


@pytest.mark.parametrize(
    ("done", "span", "left"),
    [
        ([], (0, None), [(0, None)]),
        ([(0, None)], (0, None), []),
        ([(2, 4)], (0, 10), [(0, 2), (4, 10)]),
        ([(0, 4), (4, 10)], (0, 10), []),
        ([(2, 4), (6, 8)], (3, 7), [(4, 6)]),
        ([(5, None)], (0, 10), [(0, 5)]),
        ([(0, 5)], (0, None), [(5, None)]),
    ],
)
def test_what_is_left_of_a_range(done, span, left):
    assert without(done, *span) == left


def test_a_write_that_resumes_needs_the_task_that_reads(tmp_path):
    sink = parquet(tmp_path, resume=True)
    sink.begin(None)
    sink.ledger.begin()
    with pytest.raises(ValueError, match="tasks that read"):
        list(sink.transform("W")(iter(TABLES), TaskContext()))
    for args in ({"mode": "overwrite"}, {"min_rows_per_file": 3}, {"filename_provider": FilenameProvider()}):
        with pytest.raises(ValueError, match="resumes"):
            parquet(tmp_path, resume=True, **args)
    sorted_plan = SimpleNamespace(plan=SimpleNamespace(inputs=(1,), name="Sort"))
    with pytest.raises(ValueError, match="Sort is none"):
        write_api.write_parquet(sorted_plan, str(tmp_path), resume=True)
    with pytest.raises(ValueError, match="begins with a read"):
        write_api.write_parquet(SimpleNamespace(plan=SimpleNamespace(inputs=())), str(tmp_path), resume=True)


def test_arguments_of_write_functions(tmp_path):
    asked = []
    dataset = SimpleNamespace(write_to=lambda sink, **args: asked.append((sink, args)))
    with pytest.warns(DeprecationWarning, match="num_rows_per_file"):
        write_api.write_csv(dataset, str(tmp_path), num_rows_per_file=3, concurrency=2)
    sink, args = asked[0]
    assert sink.min_rows_per_write == 3 and args == {"concurrency": 2, "ray_remote_args": None}
    with pytest.raises(ValueError, match="one of them"):
        write_api.write_csv(dataset, str(tmp_path), num_rows_per_file=3, min_rows_per_file=3)
    with pytest.raises(TypeError, match="Datasink"):
        write_api.write_datasink(dataset, 5)


# ---------------------------------------------------------------- sources and targets of users


class Collects(Datasink):
    def __init__(self):
        self.log = []

    def on_write_start(self, schema=None):
        self.log.append("start")

    def write(self, blocks, ctx):
        return ctx.task_idx, ctx.kwargs["write_uuid"], sum(block.num_rows for block in blocks)

    def on_write_complete(self, result):
        self.log.append((result.num_rows, result.size_bytes, result.write_returns))

    def on_write_failed(self, error):
        self.log.append(error)


class Breaks(Collects):
    def write(self, blocks, ctx):
        raise ValueError("boom")


def test_a_datasink(tmp_path):
    sink = Collects()
    write(sink.as_sink(), TABLES)
    assert sink.log == ["start", (10, 80, [(0, "W", 5), (1, "W", 5)])]
    sink = Breaks()
    with pytest.raises(ValueError, match="boom"):
        write(sink.as_sink(), TABLES)
    assert sink.log[0] == "start" and str(sink.log[1]) == "boom"


class Blocks(BlockBasedFileDatasink):
    def write_block_to_file(self, block, file):
        file.write(f"{block.num_rows()} {block.to_arrow().column_names}".encode())


class Rows(RowBasedFileDatasink):
    def write_row_to_file(self, row, file):
        file.write(str(row["id"]).encode())


def test_datasinks_of_files(tmp_path):
    write(Blocks(str(tmp_path / "b"), file_format="txt").as_sink(), [TABLES])
    assert (tmp_path / "b" / "W_000000.txt").read_text() == "10 ['id']"
    write(Rows(str(tmp_path / "r"), file_format="txt", dataset_uuid="D").as_sink(), TABLES)
    assert names(tmp_path / "r")[:2] == ["D_W_000000_000000_000000.txt", "D_W_000000_000000_000001.txt"]
    assert len(names(tmp_path / "r")) == 10
    assert Blocks(str(tmp_path), min_rows_per_file=4).as_sink().min_rows_per_write == 4


class Numbers(Datasource):
    def estimate_inmemory_data_size(self):
        return 80

    def get_read_tasks(self, parallelism, per_task_row_limit=None, data_context=None):
        blocks = [[{"a": np.arange(i, i + 2)}] for i in range(0, 2 * parallelism, 2)]
        return [ReadTask(lambda b=b: b, BlockMetadata(2, 16, input_files=["f"]), per_task_row_limit=1) for b in blocks]


def test_a_datasource():
    read = Numbers().as_source()
    assert [row["a"] for row in rows(read, 3)] == [0, 2, 4] and read.name == "Numbers" and read.estimate().nbytes == 80
    task = next(read.tasks(1))
    assert (task.rows, task.nbytes, task.files) == (2, 16, ("f",))
    with pytest.raises(NotImplementedError, match="get_read_tasks"):
        list(Datasource().as_source().tasks(1))
    with pytest.raises(TypeError, match="iterable of blocks"):
        list(ReadTask(lambda: pa.table({"a": [1]}), BlockMetadata())())


class Letters(FileBasedDatasource):
    def _read_stream(self, f, path):
        yield {"letter": list(f.readall().decode())}


def test_a_datasource_of_files(tmp_path):
    written(tmp_path / "a.x", "ab")
    written(tmp_path / "b.y", "cd")
    read = Letters(str(tmp_path), file_extensions=["x"], include_paths=True).as_source()
    assert rows(read) == [{"letter": c, "path": str(tmp_path / "a.x")} for c in "ab"]
    assert tables(read)[0].num_rows == 2 and Path(read.files()[0]).name == "a.x"


def test_what_sources_of_users_import_is_in_the_module_of_blocks():
    from hpc.data.block import Block, BlockAccessor, BlockMetadata

    assert BlockMetadata(num_rows=2, size_bytes=16, input_files=["a"], exec_stats=None).input_files == ("a",)
    assert BlockAccessor.for_block({"x": [1]}).num_rows() == 1 and Block is pa.Table

"""Files are copied once for each node, under a limit, and whole."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
from io_reading import rows, source, written

from hpc.data.io import stage
from hpc.data.io.csv_files import CsvFormat
from hpc.data.io.parquet_file import ParquetFormat
from hpc.data.io.stage import NodeStage


@pytest.fixture
def fetched(monkeypatch):
    found: list[str] = []
    real = stage.fetch
    monkeypatch.setattr(stage, "fetch", lambda path, *rest: found.append(path) or real(path, *rest))
    return found


def test_each_file_is_copied_once_and_read_from_the_copy(tmp_path, fetched):
    paths = [written(tmp_path / "in" / f"{i}.csv", f"a\n{i}\n") for i in range(3)]
    copies = NodeStage(folder=str(tmp_path / "node"))
    read = source(CsvFormat(), str(tmp_path / "in"), stage=copies, include_paths=True)
    assert [row["a"] for row in rows(read)] == [0, 1, 2]
    assert rows(read)[0]["path"] == str(paths[0]), "rows name the file, and not its copy"
    assert fetched == [str(path) for path in paths]
    for path in paths:
        changed = path.stat().st_mtime_ns
        path.write_text("gone")
        os.utime(path, ns=(changed, changed))
    assert [row["a"] for row in rows(read)] == [0, 1, 2], "read from the copy"


def test_a_file_that_changes_is_copied_again(tmp_path, fetched):
    path = written(tmp_path / "a.csv", "a\n1\n")
    copies = NodeStage(folder=str(tmp_path / "node"))
    first = copies.local(str(path))
    changed = path.stat().st_mtime_ns
    for content, time in (("a\n2\n", changed + 1), ("a\n22\n", changed + 1)):
        path.write_text(content)
        os.utime(path, ns=(time, time))
        found = copies.local(str(path))
        assert found != first and open(found).read() == content
    assert copies.local(str(path), pafs.LocalFileSystem()) != found and len(fetched) == 4


def test_the_driver_looks_at_footers_without_a_copy(tmp_path, fetched):
    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    read = source(ParquetFormat(), str(tmp_path / "a.parquet"), stage=NodeStage(folder=str(tmp_path / "node")))
    tasks = list(read.tasks(1))
    assert read.count() == 1 and read.schema() is not None and fetched == [] and len(tasks) == 1
    assert rows(read) == [{"a": 1}] and len(fetched) == 1


def test_what_is_beyond_the_limit_is_read_where_it_is(tmp_path, fetched):
    paths = [str(written(tmp_path / f"{i}.txt", "x" * 100)) for i in range(3)]
    copies = NodeStage(250, str(tmp_path / "node"))
    found = [copies.local(path) for path in paths]
    assert [one == path for one, path in zip(found, paths)] == [False, False, True]
    assert fetched == paths[:2]
    system = pafs.LocalFileSystem()
    assert copies.local(paths[2], system) is None, "a file of an object store is read from there"


def test_a_copy_that_fails_is_none_and_counts_nothing(tmp_path, monkeypatch):
    path = str(written(tmp_path / "a.txt", "x" * 100))
    copies = NodeStage(100, str(tmp_path / "node"))

    def broken(path, filesystem, target):
        written(tmp_path / "node" / os.path.basename(target), "half")
        raise OSError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(stage, "fetch", broken)
        with pytest.raises(OSError, match="no space"):
            copies.local(path)
    found = copies.local(path)
    assert found is not None and found != path and open(found).read() == "x" * 100


def test_many_at_once_make_one_copy(tmp_path, fetched):
    path = str(written(tmp_path / "a.txt", "x" * 1000))
    copies = NodeStage(folder=str(tmp_path / "node"))
    found: list[str | None] = []
    threads = [threading.Thread(target=lambda: found.append(copies.local(path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1 and fetched == [path]


def test_a_process_that_dies_while_it_copies_leaves_the_file_to_the_next(tmp_path):
    path = str(written(tmp_path / "a.txt", "x" * 1000))
    program = f"""
import os
from hpc.data.io import stage
def die(path, filesystem, target):
    open(target, "w").write("half")
    os._exit(1)
stage.fetch = die
stage.NodeStage(folder={str(tmp_path / "node")!r}).local({path!r})
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 1
    found = NodeStage(folder=str(tmp_path / "node")).local(path)
    assert found is not None and found != path and open(found).read() == "x" * 1000


def test_what_stage_may_be():
    assert stage.of(None) is None and stage.of("node") == NodeStage()
    with pytest.raises(ValueError, match="'node'"):
        stage.of("disk")

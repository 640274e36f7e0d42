"""Tar archives of samples, record files and databases: read, written, and refused where they are corrupt."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import struct
import tarfile
import threading
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from io_reading import rows, source, tables, written
from test_data_io_write import names, write

from hpc.data.block import build
from hpc.data.io import tar_index, tf_example, writers
from hpc.data.io.errors import ReadError
from hpc.data.io.filesink import FileSink
from hpc.data.io.records import AvroFormat, OrcFormat
from hpc.data.io.sql import SqlSink, SqlSource
from hpc.data.io.tar import TarError, members, starts
from hpc.data.io.tfrecords import TFRecordFormat, TFRecordWriter, features_of
from hpc.data.io.webdataset import UNPICKLE, WebDatasetFormat
from hpc.data.transform.base import TaskContext
from hpc.util import crc32c, protobuf


def archive(path, files, form=tarfile.PAX_FORMAT):
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    return path


FILES = {
    "a.txt": b"hello", "b" * 120 + ".txt": b"x" * 1000, "d/" * 60 + "c.txt": b"", "é.txt": b"u",
    **{f"{i}.bin": bytes([i]) * 513 for i in range(3)},
}  # fmt: skip


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_members_are_those_of_tarfile(tmp_path, form):
    path = archive(tmp_path / "a.tar", FILES, form)
    with open(path, "rb", buffering=0) as file:
        assert dict(members(file)) == FILES
    with tarfile.open(path) as tar:
        assert [m.name for m in tar if m.isreg()] == list(FILES)


def test_short_and_corrupt_archives_are_said(tmp_path):
    data = archive(tmp_path / "a.tar", FILES).read_bytes()
    for broken, words in (
        (data[:514], "within the member"),
        (data[:300], "within a header"),
        (b"x" * 600, "no tar header at byte 0"),
    ):
        with pytest.raises(TarError, match=words):
            list(members(io.BytesIO(broken)))


def member(name, data=b"", kind=tarfile.REGTYPE, size=None):
    """A header with its content. size: what it tells of that, if it is not so."""
    told = tarfile.TarInfo(name)
    told.type = kind
    header = bytearray(told.tobuf(tarfile.USTAR_FORMAT))
    header[124:136] = (b"%011o" % len(data) if size is None else size).ljust(12, b"\0")
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 256 + sum(header[156:]))
    return bytes(header) + data.ljust(-(-len(data) // 512) * 512, b"\0")


def test_links_and_folders_have_no_content_whatever_size_they_tell():
    data = member("d/", kind=tarfile.DIRTYPE, size=b"10000") + member("a.txt", b"abc")
    data += member("l.txt", kind=tarfile.LNKTYPE, size=b"3") + member("b.txt", b"x" * 600) + bytes(1024)
    assert list(members(io.BytesIO(data))) == [("a.txt", b"abc"), ("b.txt", b"x" * 600)]
    found = list(starts(lambda place, count: data[place : place + count]))
    assert [name for _, name, _ in found] == ["a.txt", "b.txt"]
    for begin, name, end in found:
        ((there, _),) = members(io.BytesIO(data[begin:]), begin, end)
        assert there == name


@pytest.mark.parametrize(
    "broken",
    [
        member("nodot", size=b"-2000"),
        member("x", kind=tarfile.XHDTYPE, size=b"77777777777"),
        member("x", b"0 path=x\n", tarfile.XHDTYPE),
        member("x", kind=tarfile.XHDTYPE, size=b"\xff" * 12),
    ],
    ids=["less than nothing", "large", "empty record", "larger than any file"],
)
def test_headers_that_lead_nowhere_or_back_are_said(broken):
    data = member("a") * 4 + broken
    with pytest.raises(TarError, match="cannot have"):
        list(members(io.BytesIO(data)))
    with pytest.raises(TarError, match="cannot have"):
        list(starts(lambda place, count: data[place : place + count]))


def png(value, side=2):
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), value, np.uint8)).save(stream, "png")
    return stream.getvalue()


@pytest.fixture
def shard(tmp_path):
    files = {}
    for i in range(3):
        files[f"s/{i}.cls"] = str(i).encode()
        files[f"s/{i}.txt"] = f"t{i}".encode()
        files[f"s/{i}.json"] = json.dumps({"k": i, "l": [1, 2]}).encode()
        files[f"s/{i}.img.png"] = png(i)
    return archive(tmp_path / "a.tar", files)


def test_samples_are_rows(shard):
    (table,) = tables(source(WebDatasetFormat(), str(shard)))
    assert table.column_names == ["__key__", "cls", "txt", "json", "img.png", "__url__"]
    assert table["cls"].to_pylist() == [0, 1, 2] and table["txt"].to_pylist() == ["t0", "t1", "t2"]
    assert table["__key__"].to_pylist() == ["s/0", "s/1", "s/2"] and table["__url__"].to_pylist() == [str(shard)] * 3
    assert table["img.png"].combine_chunks().to_numpy_ndarray().shape == (3, 2, 2, 3)


def test_tables_of_images_are_as_large_as_others(tmp_path):
    files = {f"{i}.png": png(i, 1024) for i in range(9)}  # 3 MiB each, of some KB in the archive
    assert max(t.num_rows for t in tables(source(WebDatasetFormat(), str(archive(tmp_path / "a.tar", files))))) == 3


def test_options_of_samples(shard):
    def first(**args):
        return rows(source(WebDatasetFormat(**args), str(shard)))[0]

    assert first(decoder=None, suffixes=["cls"]) == {"__key__": "s/0", "cls": b"0", "__url__": str(shard)}
    assert set(first(suffixes="*.t*")) == {"__key__", "txt", "__url__"}
    assert set(first(fileselect=lambda name: name.endswith("cls"))) == {"__key__", "cls", "__url__"}
    assert first(filerename=lambda name: name.replace("s/", "q/"), suffixes=["cls"])["__key__"] == "q/0"
    assert first(decoder=lambda sample: {"n": len(sample)}) == {"n": 6}
    found = first(expand_json=True, suffixes=["json"])
    assert found["k"] == 0 and found["l"] == [1, 2]
    assert first(decoder=[True, lambda s: {"a": s["cls"] + 1}]) == {"a": 1}


def test_samples_that_are_wrong_are_named(tmp_path, monkeypatch):
    def broken(files, words):
        path = archive(tmp_path / "b.tar", files)
        with pytest.raises(ReadError, match=words) as caught:
            rows(source(WebDatasetFormat(), str(path)))
        assert caught.value.path == str(path)

    broken({"1.txt": b"a", "2.txt": b"b", "1.cls": b"1"}, "do not follow each other")
    broken({"1.cls": b"one"}, "sample '1' cannot be decoded")
    broken({"1.pkl": b""}, UNPICKLE)
    monkeypatch.setenv(UNPICKLE, "1")
    import pickle

    path = archive(tmp_path / "b.tar", {"1.pkl": pickle.dumps([1, 2])})
    assert rows(source(WebDatasetFormat(), str(path)))[0]["pkl"] == [1, 2]


def sampled(path, count, form=tarfile.PAX_FORMAT, **more):
    """An archive of samples of two members, with folders in their names that need headers of their own."""
    long = "d" * 150
    files = {
        f"{long if i % 3 == 0 else 'e'}/{i:03d}.{kind}": bytes([i]) * (300 + i)
        for i in range(count)
        for kind in ("bin", "img")
    }
    return archive(path, {**files, **more}, form)


@pytest.fixture
def small_index(monkeypatch):
    for name, value in (("LARGE", 1000), ("PART", 5000), ("MEAN", 1)):
        monkeypatch.setattr(tar_index, name, value)
    monkeypatch.setattr(tar_index, "_known", {})


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_tasks_read_parts_of_a_large_archive(tmp_path, form, small_index):
    path = str(sampled(tmp_path / "a.tar", 40, form))
    made = source(WebDatasetFormat(decoder=None), path)
    tasks = list(made.tasks(6))
    assert (
        len(tasks) == 6 and [task.rows for task in tasks] == list(made.counts(tasks)) and None not in made.counts(tasks)
    )
    found = [[row for table in task.read(TaskContext()) for row in table.to_pylist()] for task in tasks]
    assert [len(some) for some in found] == [task.rows for task in tasks]
    with open(path, "rb", buffering=0) as file:
        whole = [sample for sample, _ in WebDatasetFormat().samples(members(file), path)]
    assert [row for some in found for row in some] == whole and len(whole) == 40
    assert rows(source(WebDatasetFormat(decoder=None), path), 1) == whole
    # A run that goes on skips rows without reading them, but for those of a part.
    skipped, rest = made.behind(tasks[0], tasks[0].rows - 1)
    assert 0 < skipped < tasks[0].rows
    assert [row for table in rest.read(TaskContext()) for row in table.to_pylist()] == found[0][skipped:]
    left = made.without({one for task in tasks[::2] for one in task.ranges})
    assert rows(left, 3) == [row for some in found[1::2] for row in some]


def test_rows_of_parts_are_counted_as_they_are_read(tmp_path, small_index):
    path = str(sampled(tmp_path / "a.tar", 30, **{"e/x.txt": b"1", "noname": b"2", "e/y.txt": b"3"}))
    for options in (
        {"suffixes": ["txt"]},
        {"fileselect": lambda name: "ddd" in name},
        {"filerename": lambda name: "q/" + name},
    ):
        made = source(WebDatasetFormat(decoder=None, **options), path)
        tasks = list(made.tasks(5))
        assert sum(task.rows for task in tasks) == len(rows(made, 5)) > 1


def test_the_index_of_an_archive_is_made_once_while_it_stays_as_it_is(tmp_path, small_index, monkeypatch):
    path = sampled(tmp_path / "a.tar", 20)
    opened, real = [], os.open
    monkeypatch.setattr(tar_index.os, "open", lambda name, *more: opened.append(name) or real(name, *more))
    form = WebDatasetFormat(decoder=None)
    for _ in range(3):
        assert sum(task.rows for task in source(form, str(path)).tasks(4)) == 20
    assert len(opened) == 1
    sampled(path, 25)
    assert sum(task.rows for task in source(form, str(path)).tasks(4)) == 25 and len(opened) == 2


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_an_index_by_threads_is_that_of_one_pass(tmp_path, form, small_index, monkeypatch):
    """Also where contents look like headers, where folders are between members, and where one is longer than others."""
    within = sampled(tmp_path / "within.tar", 9, form).read_bytes()
    more = {"f0/x.bin": within, "f1/x.bin": b"x" * 20_000, "f2/x.bin": within[512:], f"g/{'n' * 90}.txt": b"y" * 700}
    path = sampled(tmp_path / "a.tar", 40, form, **more)
    with tarfile.open(path, "a", format=form) as tar:
        for number in range(30):
            tar.addfile(folder := tarfile.TarInfo(f"z{number}"))
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)
            member = tarfile.TarInfo(f"z{number}.txt")
            member.size = 100 * number
            tar.addfile(member, io.BytesIO(b"z" * member.size))
    data = path.read_bytes()
    for number, end in enumerate((len(data), len(data) - 20_000, len(data) - 30_100, len(data) // 2 + 100)):
        cut = written(tmp_path / f"{number}.tar", data[:end])
        alone = walked(cut)
        assert len(alone) > 40
        with monkeypatch.context() as patch:
            patch.setattr(tar_index, "SLOW_S", -1.0)
            for stretch in (512, 2048, 5120, 51_200):
                patch.setattr(tar_index, "STRETCH", stretch)
                assert walked(cut) == alone


def walked(path):
    """The members of an archive as an index has them, or the error of one that is damaged."""
    with open(path, "rb") as file:
        try:
            return list(tar_index._members(file.fileno(), os.path.getsize(path)))
        except TarError as error:
            return str(error)


def test_headers_that_take_long_are_read_ahead(tmp_path, small_index, monkeypatch):
    """As many at a time as there are threads: the first of them waits until others have come."""
    path, real = sampled(tmp_path / "a.tar", 250), os.pread
    together, size = threading.Barrier(8), path.stat().st_size
    seen = set()

    def read(descriptor, length, place):
        if threading.current_thread() is not threading.main_thread() and threading.get_ident() not in seen:
            seen.add(threading.get_ident())
            if len(seen) <= 8:
                together.wait(timeout=30)
        return real(descriptor, length, place)

    monkeypatch.setattr(tar_index, "SLOW_S", -1.0)
    monkeypatch.setattr(tar_index, "STRETCH", size // 64)
    expected = walked(path)
    monkeypatch.setattr(tar_index.os, "pread", read)
    assert walked(path) == expected
    assert len(seen) >= 8


def test_of_an_archive_of_small_members_few_headers_are_read(tmp_path, small_index, monkeypatch):
    """As each may take long, and it has no index."""
    monkeypatch.setattr(tar_index, "MEAN", 32 << 10)
    path, real, read = sampled(tmp_path / "a.tar", 250), os.pread, []
    monkeypatch.setattr(tar_index.os, "pread", lambda *args: read.append(args[1]) or real(*args))
    with open(path, "rb"):
        assert tar_index._indexed(str(path), str(path), os.path.getsize(path), lambda name: (name, "", True)) is None
    assert len(read) < 3 * tar_index.LOOKED


def test_archives_that_need_no_index_have_none(tmp_path, small_index, monkeypatch):
    def count(given, **more):
        return len(list(source(WebDatasetFormat(decoder=None), given, **more).tasks(4)))

    path = sampled(tmp_path / "a.tar", 60)
    assert count(str(path)) == 4
    monkeypatch.setattr(tar_index, "MEAN", 1 << 20)
    monkeypatch.setattr(tar_index, "_known", {})
    assert count(str(path)) == 1, "its members are small"
    monkeypatch.setattr(tar_index, "MEAN", 1)
    monkeypatch.setattr(WebDatasetFormat, "few_files", 1)
    sampled(tmp_path / "b.tar", 60)
    assert count([str(path), str(tmp_path / "b.tar")]) == 2, "each file is a task"
    broken = archive(tmp_path / "c.tar", {f"{n % 9}.txt": b"x" * 600 for n in range(9)} | {"0.cls": b"1"})
    assert count(str(broken)) == 1
    with pytest.raises(ReadError, match="do not follow each other"):
        rows(source(WebDatasetFormat(), str(broken)))
    cut = written(tmp_path / "d.tar", path.read_bytes()[:20_000])
    with pytest.raises(ReadError, match="the archive ends within"):
        rows(source(WebDatasetFormat(decoder=None), str(cut)))


def test_samples_are_written(tmp_path):
    table = build.from_rows([{"__key__": f"k{i}", "txt": f"t{i}", "cls": i, "npy": np.arange(2) + i} for i in range(2)])
    write(FileSink(str(tmp_path), writers.WebDatasetWriter()), [table])
    with tarfile.open(tmp_path / "W_000000.tar") as tar:
        assert tar.getnames() == ["k0.txt", "k0.cls", "k0.npy", "k1.txt", "k1.cls", "k1.npy"]
    (found,) = tables(source(WebDatasetFormat(), str(tmp_path)))
    assert found["cls"].to_pylist() == [0, 1] and found["npy"].combine_chunks().to_numpy_ndarray().tolist() == [
        [0, 1],
        [1, 2],
    ]
    with pytest.raises(ValueError, match="'n' has a int"):
        write(FileSink(str(tmp_path / "x"), writers.WebDatasetWriter()), [pa.table({"n": [1]})])


# ---------------------------------------------------------------- record files

RECORDS = pa.table(
    {
        "i": [1, -2, 3],
        "f": pa.array([0.5, 1.5, 2.5], pa.float32()),
        "b": [b"x", b"", b"zz"],
        "s": ["a", "é", "c"],
        "l": [[1, 2], [3], []],
        "n": [1, None, 3],
    }
)


def test_checksums_of_numpy_are_those_of_the_standard():
    assert crc32c.one_by_one(b"123456789") == 0xE3069283
    assert crc32c.by_numpy(b"123456789") == 0xE3069283
    assert crc32c.by_numpy(bytes(32)) == 0x8A9136AA
    assert crc32c.by_numpy(b"\xff" * 32) == 0x62A8AB43
    for size in (64, 65, 100, 1000, 4096, 100_001):
        data = np.random.default_rng(size).bytes(size)
        assert crc32c.by_numpy(data) == crc32c.one_by_one(data), size


def test_records_come_back(tmp_path):
    write(FileSink(str(tmp_path), TFRecordWriter()), [RECORDS])
    assert names(tmp_path) == ["W_000000.tfrecords"]
    (found,) = tables(source(TFRecordFormat(), str(tmp_path)))
    assert {name: str(found.schema.field(name).type) for name in ("i", "f", "b", "s", "l", "n")} == {
        "i": "int64", "f": "float", "b": "binary", "s": "binary", "l": "list<item: int64>", "n": "list<item: int64>",
    }  # fmt: skip
    assert found["i"].to_pylist() == [1, -2, 3] and found["l"].to_pylist() == [[1, 2], [3], []]
    assert found["s"].to_pylist() == [b"a", "é".encode(), b"c"] and found["n"].to_pylist() == [[1], [], [3]]


def test_a_schema_makes_lists_and_is_checked(tmp_path):
    write(FileSink(str(tmp_path), TFRecordWriter()), [RECORDS.select(["i", "s"])])
    schema = SimpleNamespace(feature=[SimpleNamespace(name="i", type=2), SimpleNamespace(name="s", type=1)])
    assert rows(source(TFRecordFormat(features_of(schema)), str(tmp_path)))[0] == {"i": [1], "s": [b"a"]}
    schema.feature[0].type = 3
    with pytest.raises(ReadError, match="'i' has ints, and the schema says floats"):
        rows(source(TFRecordFormat(features_of(schema)), str(tmp_path)))
    with pytest.raises(ReadError, match="not in the schema"):
        rows(source(TFRecordFormat(features_of(SimpleNamespace(feature=schema.feature[1:]))), str(tmp_path)))
    with pytest.raises(ValueError, match="tf_schema"):
        write(FileSink(str(tmp_path / "n"), TFRecordWriter()), [pa.table({"a": pa.nulls(1)})])
    with pytest.raises(ValueError, match="no feature"):
        write(FileSink(str(tmp_path / "n"), TFRecordWriter()), [pa.table({"a": [{"x": 1}]})])


def test_corrupt_records_are_named_by_their_number(tmp_path):
    write(FileSink(str(tmp_path), TFRecordWriter()), [RECORDS])
    path = tmp_path / "W_000000.tfrecords"
    data = path.read_bytes()
    first = struct.unpack("<Q", data[:8])[0] + 16
    for at, words in ((first + 14, "checksum"), (first + 1, "length is corrupt")):
        broken = bytearray(data)
        broken[at] ^= 1
        path.write_bytes(broken)
        with pytest.raises(ReadError, match=words) as caught:
            rows(source(TFRecordFormat(), str(path)))
        assert caught.value.rows == (1, 2)
    path.write_bytes(data[:-3])
    with pytest.raises(ReadError, match="ends within"):
        rows(source(TFRecordFormat(), str(path)))


def test_examples_are_those_of_protobuf():
    data = tf_example.encode({"a": (3, [1, -1]), "b": (2, [0.5]), "c": (1, [b"x"])})
    # As protobuf lays them out: a map of entries, numbers packed, a negative one in ten bytes.
    assert data.hex() == (
        "0a31" "0a14" "0a0161" "120f" "1a0d" "0a0b" "01ffffffffffffffffff01"
        "0a0d" "0a0162" "1208" "1206" "0a04" "0000003f" "0a0a" "0a0163" "1205" "0a03" "0a0178"
    )  # fmt: skip
    assert tf_example.decode(data) == {"a": (3, [1, -1]), "b": (2, [0.5]), "c": (1, [b"x"])}
    field = protobuf.bytes_field
    unpacked = field(
        1,
        field(1, field(1, b"a") + field(2, field(3, b"\x08\x05\x08\x06"))),
    )
    assert tf_example.decode(unpacked) == {"a": (3, [5, 6])}, "numbers that are not packed"
    with pytest.raises(tf_example.ExampleError):
        tf_example.decode(data[:-2])


# ---------------------------------------------------------------- Avro, ORC, SQL


def test_avro(tmp_path):
    fastavro = pytest.importorskip("fastavro", reason="needs fastavro")
    schema = {
        "type": "record",
        "name": "r",
        "fields": [{"name": "a", "type": "int"}, {"name": "b", "type": ["null", "string"]}],
    }
    with open(tmp_path / "a.avro", "wb") as file:
        fastavro.writer(file, schema, [{"a": 1, "b": None}, {"a": 2, "b": "x"}])
    assert rows(source(AvroFormat(), str(tmp_path))) == [{"a": 1, "b": None}, {"a": 2, "b": "x"}]
    written(tmp_path / "b.avro", "no avro")
    with pytest.raises(ReadError, match=r"b\.avro"):
        rows(source(AvroFormat(), str(tmp_path)))


def test_orc(tmp_path):
    write(FileSink(str(tmp_path), writers.OrcWriter()), [pa.table({"a": [1, 2], "b": ["x", "y"]})])
    read = source(OrcFormat(), str(tmp_path))
    assert rows(read) == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}] and read.schema().names == ["a", "b"]
    assert rows(read.with_columns(["b"])) == [{"b": "x"}, {"b": "y"}]
    assert sum(t.num_rows for t in tables(read.with_columns([]))) == 2


@pytest.fixture
def database(tmp_path):
    def connect():
        connection = sqlite3.connect(tmp_path / "x.db")
        connection.create_function("MOD", 2, lambda a, b: None if a is None else a % b)
        connection.create_function("MD5", 1, lambda a: None if a is None else a * 7919)
        return connection

    connection = connect()
    connection.execute("create table t(a int, b text)")
    connection.executemany("insert into t values (?, ?)", [(i, str(i)) for i in range(200)])
    connection.commit()
    return connect


def test_queries(database):
    assert len(rows(SqlSource("select * from t", database, None, None, "MD5"))) == 200
    assert rows(SqlSource("select * from t where a < ?", database, (2,), None, "MD5")) == [
        {"a": 0, "b": "0"},
        {"a": 1, "b": "1"},
    ]
    assert rows(SqlSource("select * from t where a > 900", database, None, None, "MD5")) == []
    with pytest.raises(sqlite3.OperationalError, match="nope"):
        rows(SqlSource("select * from nope", database, None, None, "MD5"))
    with pytest.raises(ValueError, match="without close"):
        rows(SqlSource("select 1", lambda: SimpleNamespace(), None, None, "MD5"))


def test_shards_have_each_row_once(database):
    sharded = SqlSource("select * from t", database, None, ["a"], "MD5")
    assert len(list(sharded.tasks(3))) == 3 and len(list(sharded.tasks(100))) == 4
    assert sorted(row["a"] for row in rows(sharded, 3)) == list(range(200))
    connection = database()
    connection.execute("insert into t values (null, 'none')")
    connection.commit()
    assert sorted(str(row["a"]) for row in rows(sharded, 3)) == sorted([*map(str, range(200)), "None"])
    connection.execute("delete from t where a is null")
    connection.commit()
    unknown = SqlSource("select * from t", database, None, ["a"], "NOFUNCTION")
    assert len(list(unknown.tasks(3))) == 1 and len(rows(unknown, 3)) == 200


def test_rows_are_inserted(database):
    result = write(
        SqlSink("insert into t values (?, ?)", database), [pa.table({"a": list(range(300)), "b": ["x"] * 300})]
    )
    assert result["rows"].to_pylist() == [300]
    assert database().execute("select count(*) from t").fetchone() == (500,)

    def broken():
        yield pa.table({"a": [1], "b": ["x"]})
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        write(SqlSink("insert into t values (?, ?)", database), [broken()])
    assert database().execute("select count(*) from t").fetchone() == (500,), "a task is a transaction"

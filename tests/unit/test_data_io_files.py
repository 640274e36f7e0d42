"""Listings, groups of files, partitions and rows of text formats: the same as Ray Data reads from the same files."""

from __future__ import annotations

import gzip
import os
import pickle
import threading
from itertools import chain

import numpy as np
import pyarrow as pa
import pytest
from io_reading import HIVE, rows, source, tables, types, written

from hpc.data.io import manifest
from hpc.data.io.binary_files import BinaryFormat, ImageFormat, NumpyFormat
from hpc.data.io.csv_files import CsvFormat
from hpc.data.io.errors import ReadError
from hpc.data.io.files import FileTask
from hpc.data.io.grouping import Piece, Sizes, groups
from hpc.data.io.json_files import JsonFormat
from hpc.data.io.lines import whole_lines
from hpc.data.io.listing import Listing
from hpc.data.io.manifest import Manifest
from hpc.data.io.memory import RangeSource
from hpc.data.io.partitioning import Partitioning, PartitionStyle, PathPartitionFilter
from hpc.data.io.source import Estimate
from hpc.data.io.text_files import TextFormat
from hpc.data.options import FileShuffleConfig
from hpc.data.transform.base import TaskContext


@pytest.fixture
def csvs(tmp_path):
    for name, content in {"a": "1,x\n2,y\n", "b10": "3,z\n", "b2": "4,w\n", ".hid": "9,h\n", "_m": "8,m\n"}.items():
        written(tmp_path / f"{name}.csv", "a,b\n" + content)
    written(tmp_path / "sub" / "c.csv", "a,b\n5,s\n")
    written(tmp_path / "_sub" / "c.csv", "a,b\n7,s\n")
    return tmp_path


# ---------------------------------------------------------------- which files


def test_files_come_sorted_by_path_without_hidden_ones(csvs):
    read = source(CsvFormat(), str(csvs), include_paths=True)
    assert [row["a"] for row in rows(read)] == [1, 2, 3, 4, 5]
    assert types(read) == {"a": "int64", "b": "string", "path": "string"}
    assert rows(read)[-1]["path"] == str(csvs / "sub" / "c.csv")
    assert read.files() == [str(csvs / name) for name in ("a.csv", "b10.csv", "b2.csv", "sub/c.csv")]


def test_a_listing_is_the_order_of_paths_as_texts(tmp_path):
    names = ["b.csv", "b/x.csv", "b/y/z.csv", "b-1.csv", "a/x.csv", "c/1.csv", "c/10.csv"]
    for name in names:
        written(tmp_path / name, "a\n")
    found = [entry.path for entry in Listing((str(tmp_path),))]
    assert found == sorted(str(tmp_path / name) for name in names)


def test_named_paths_keep_their_order_and_may_be_hidden(csvs):
    read = source(CsvFormat(), [str(csvs / "b10.csv"), csvs / ".hid.csv", str(csvs / "a.csv")])
    assert [row["a"] for row in rows(read)] == [3, 9, 1, 2]


def test_many_named_files_of_a_folder_are_found_by_one_look_at_it(tmp_path, monkeypatch):
    paths = [str(written(tmp_path / f"{i}.txt", "x")) for i in range(100)]
    real, asked = os.stat, []
    monkeypatch.setattr(os, "stat", lambda path, *a, **k: asked.append(path) or real(path, *a, **k))
    assert [entry.path for entry in Listing(tuple(paths))] == paths
    assert not [path for path in asked if str(path).startswith(str(tmp_path))]


def test_missing_paths_and_empty_folders_are_said_at_once(csvs, tmp_path):
    with pytest.raises(FileNotFoundError, match="nope"):
        source(CsvFormat(), str(csvs / "nope.csv"))
    read = source(CsvFormat(), [str(csvs / "nope.csv"), str(csvs / "a.csv")], ignore_missing_paths=True)
    assert len(rows(read)) == 2
    for paths, args in (("nope", {"ignore_missing_paths": True}), ("", {"file_extensions": ["tsv"]})):
        with pytest.raises(ValueError, match="there are no files"):
            source(CsvFormat(), str(csvs / paths), **args)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="there are no files"):
        source(CsvFormat(), str(tmp_path / "empty"))


@pytest.mark.parametrize("paths", [5, [], [5]])
def test_what_is_no_path_is_said(paths):
    with pytest.raises(ValueError, match="path"):
        source(CsvFormat(), paths)


def test_a_link_to_a_folder_above_is_not_followed(tmp_path):
    written(tmp_path / "a" / "x.txt", "x")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert [os.path.relpath(e.path, tmp_path) for e in Listing((str(tmp_path),))] == ["a/x.txt", "link/x.txt"]


def test_the_first_file_comes_before_the_listing_ends(tmp_path, monkeypatch):
    for i in range(3):
        written(tmp_path / f"d{i}" / "x.txt", "x")
    gate, real = threading.Event(), os.scandir

    def slow(path):
        if str(path).rstrip("/").endswith("d2"):
            assert gate.wait(10)
        return real(path)

    monkeypatch.setattr(os, "scandir", slow)
    entries = iter(Manifest(Listing((str(tmp_path),))))
    first = next(entries)
    gate.set()
    assert [first.path[-6:], *(entry.path[-6:] for entry in entries)] == ["0/x.txt"[-6:], "/x.txt", "/x.txt"]


def test_a_dataset_is_listed_once_and_its_manifest_can_be_kept(csvs, tmp_path, monkeypatch):
    read = source(CsvFormat(), str(csvs))
    assert len(rows(read)) == 5
    again = pickle.loads(pickle.dumps(read))
    monkeypatch.setattr(os, "scandir", None)
    assert rows(read) == rows(again) and len(read.files()) == 4
    read.manifest.save(str(tmp_path / "manifest"))
    assert [e.path for e in Manifest.load(str(tmp_path / "manifest"))] == read.files()


# ---------------------------------------------------------------- tasks


def sized(sizes, parallelism):
    learned = Sizes(lambda entry: None)
    for size in sizes:
        learned.known, learned.total = learned.known + 1, learned.total + size
    found = (Piece(str(i), nbytes=size) for i, size in enumerate(sizes))
    return [[int(piece.path) for piece in group] for group in groups(found, learned, parallelism)]


@pytest.mark.parametrize(("count", "parallelism", "expected"), [(10, 3, 3), (2, 5, 2), (7, 7, 7), (1, 1, 1)])
def test_a_short_listing_makes_as_many_tasks_as_are_wanted(count, parallelism, expected):
    made = sized([1000] * count, parallelism)
    assert len(made) == expected and list(chain(*made)) == list(range(count)) and all(made)
    assert max(map(len, made)) - min(map(len, made)) <= 1


def test_tasks_are_balanced_by_bytes_and_small_files_are_grouped():
    assert sized([100, 1, 1, 98], 2) == [[0], [1, 2, 3]] or sized([100, 1, 1, 98], 2) == [[0, 1], [2, 3]]
    assert len(sized([4096] * 1000, -1)) == 1
    assert len(sized([16 << 20] * 8, -1)) == 4


def test_a_long_listing_begins_with_small_tasks_that_grow():
    made = sized([4096] * 20_000, 4)
    assert list(chain(*made)) == list(range(20_000))
    assert len(made[0]) == 128 and max(map(len, made)) <= 8192 and len(made) < 40


def test_tasks_of_the_same_files_are_the_same(csvs):
    one, two = (list(source(CsvFormat(), str(csvs)).tasks(3)) for _ in range(2))
    assert [task.key for task in one] == [task.key for task in two] and len({task.key for task in one}) == 3
    task = pickle.loads(pickle.dumps(one[0]))
    assert isinstance(task, FileTask) and task.files == one[0].files


def test_shuffled_files_are_another_order_that_a_seed_repeats(tmp_path):
    for i in range(20):
        written(tmp_path / f"{i:02}.txt", f"{i}\n")

    def orders(shuffle):
        read = source(TextFormat(), str(tmp_path), shuffle=shuffle)
        return [[row["text"] for row in rows(read)] for _ in range(2)]

    first, second = orders(FileShuffleConfig(7))
    assert first != second and sorted(first) == sorted(second) and orders(FileShuffleConfig(7)) == [first, second]
    fixed = orders(FileShuffleConfig(7, reseed_after_execution=False))
    assert fixed[0] == fixed[1] != sorted(first)
    assert sorted(orders("files")[0]) == sorted(first)
    with pytest.raises(ValueError, match="shuffle"):
        orders("rows")


# ---------------------------------------------------------------- partitions


@pytest.fixture
def hive(tmp_path):
    written(tmp_path / "y=2020" / "m=a%20b" / "f.csv", "v\n1\n")
    written(tmp_path / "y=2021" / "m=b" / "f.csv", "v\n2\n")
    return tmp_path


def test_hive_partitions_are_columns_after_those_of_the_file(hive):
    read = source(CsvFormat(), str(hive), partitioning=HIVE)
    assert rows(read) == [{"v": 1, "y": "2020", "m": "a b"}, {"v": 2, "y": "2021", "m": "b"}]
    assert types(read) == {"v": "int64", "y": "string", "m": "string"}
    typed = source(CsvFormat(), str(hive), partitioning=Partitioning("hive", field_types={"y": int}))
    assert types(typed)["y"] == "int64" and rows(typed)[0]["y"] == 2020
    assert rows(source(CsvFormat(), str(hive))) == [{"v": 1}, {"v": 2}]


def test_dir_partitions_need_names(hive):
    parts = Partitioning(PartitionStyle.DIRECTORY, str(hive), ["year", "month"])
    assert rows(source(CsvFormat(), str(hive), partitioning=parts))[1] == {"v": 2, "year": "y=2021", "month": "m=b"}
    with pytest.raises(ValueError, match="field_names"):
        source(CsvFormat(), str(hive), partitioning=Partitioning("dir"))
    with pytest.raises(ValueError, match="2 folders"):
        rows(source(CsvFormat(), str(hive), partitioning=Partitioning("dir", str(hive), ["year"])))


def test_a_partition_filter_leaves_out_files(hive):
    only = PathPartitionFilter.of(lambda values: values["y"] == "2020")
    assert rows(source(CsvFormat(), str(hive), partition_filter=only)) == [{"v": 1}]


def test_a_column_that_the_path_contradicts_is_an_error(tmp_path):
    written(tmp_path / "a=5" / "x.csv", "a,b\n1,2\n")
    with pytest.raises(ReadError, match="'a'"):
        rows(source(CsvFormat(), str(tmp_path), partitioning=HIVE))
    written(tmp_path / "a=5" / "x.csv", "a,b\n5,2\n")
    assert rows(source(CsvFormat(), str(tmp_path), partitioning=HIVE)) == [{"a": 5, "b": 2}]


def test_columns_and_limits_move_into_files(hive):
    read = source(CsvFormat(), str(hive), partitioning=HIVE, include_paths=True)
    assert rows(read.with_columns(["y", "v"])) == [{"y": "2020", "v": 1}, {"y": "2021", "v": 2}]
    assert [t.column_names for t in tables(read.with_columns(["path"]))] == [["path"]]
    assert sum(t.num_rows for t in tables(read.with_columns([]))) == 2
    assert len(rows(read.with_limit(1), 1)) == 1 and len(rows(read.with_limit(0), 1)) == 0


# ---------------------------------------------------------------- formats


def test_csv_that_is_wrong_names_the_file_and_the_rows(tmp_path):
    for name, content, words in (
        ("ragged", "a,b\n1,2\n3\n4,5\n", "Expected 2 columns"),
        ("empty", "", "Empty CSV"),
    ):
        path = written(tmp_path / name / "x.csv", content)
        with pytest.raises(ReadError, match=words) as caught:
            rows(source(CsvFormat(), str(tmp_path / name)))
        assert caught.value.path == str(path)
    big = "a\n" + "1\n" * 600_000 + "x\n"
    with pytest.raises(ReadError, match="column_types") as caught:
        rows(source(CsvFormat(), str(written(tmp_path / "late.csv", big))))
    assert caught.value.rows is not None and 0 < caught.value.rows[0] < 600_000
    with pytest.raises(TypeError, match="nope"):
        CsvFormat((("nope", 1),))


def test_csv_options_reach_pyarrow(tmp_path):
    from pyarrow import csv

    path = written(tmp_path / "x.csv", "a;b\n1;2\n")
    form = CsvFormat((("parse_options", csv.ParseOptions(delimiter=";")),))
    assert rows(source(form, str(path))) == [{"a": 1, "b": 2}]
    assert rows(pickle.loads(pickle.dumps(source(form, str(path))))) == [{"a": 1, "b": 2}]
    assert rows(source(CsvFormat(), str(written(tmp_path / "h.csv", "a,b\n")))) == []


def test_compressed_files_are_read_by_their_names(tmp_path):
    written(tmp_path / "a.csv.gz", gzip.compress(b"a\n1\n"))
    assert rows(source(CsvFormat(), str(tmp_path))) == [{"a": 1}]
    assert rows(source(BinaryFormat(), str(tmp_path))) == [{"bytes": b"a\n1\n"}]
    assert rows(source(TextFormat(), str(tmp_path))) == [{"text": "a"}, {"text": "1"}]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('[{"a":1,"b":"x"},\n {"a":2}]', [{"a": 1, "b": "x"}, {"a": 2, "b": None}]),
        ('{"a":1,"b":"x"}\n{"a":2,"c":[1]}\n', [{"a": 1, "b": "x", "c": None}, {"a": 2, "b": None, "c": [1]}]),
        ('{"a":1,"b":{"c":2}}', [{"a": 1, "b": {"c": 2}}]),
        ('{\n "a": 1,\n "b": 2\n}', [{"a": 1, "b": 2}]),
        ("[]", []),
        ("", []),
        ("\n\n", []),
    ],
)
def test_json_of_each_shape(tmp_path, content, expected):
    assert rows(source(JsonFormat(), str(written(tmp_path / "x.json", content)))) == expected


@pytest.mark.parametrize("content", ['{"a":1,\n{', "[1, 2]", '[{"a":1}', '{"a":1}\nnope\n', '{"a":1}\n{"a":"x"}\n'])
def test_json_that_is_wrong_names_the_file(tmp_path, content):
    path = written(tmp_path / "x.json", content)
    with pytest.raises(ReadError) as caught:
        rows(source(JsonFormat(), str(path)))
    assert caught.value.path == str(path)


def test_a_bad_line_is_named_by_its_row(tmp_path):
    path = written(tmp_path / "x.jsonl", '{"a":1}\n' * 5 + "nope\n")
    with pytest.raises(ReadError, match="rows 5 to 5") as caught:
        rows(source(JsonFormat(), str(path)))
    assert caught.value.rows == (5, 6)


def test_types_of_lines_may_widen_from_piece_to_piece(tmp_path, monkeypatch):
    monkeypatch.setattr("hpc.data.io.lines.BLOCK", 16)
    lines = ['{"a":1}', '{"a":null}', '{"a":2}', '{"a":2.5,"b":1}', '{"a":3}']
    read = source(JsonFormat(), str(written(tmp_path / "x.jsonl", "\n".join(lines))))
    found = pa.concat_tables(tables(read), promote_options="permissive")
    assert found["a"].to_pylist() == [1, None, 2, 2.5, 3] and found["b"].to_pylist() == [None, None, None, 1, None]


def test_an_array_longer_than_a_block_is_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("hpc.data.io.lines.BLOCK", 7)
    content = "[" + ",\n".join(f'{{"a": {i}, "s": "]}},{{"}}' for i in range(50)) + "]"
    assert [row["a"] for row in rows(source(JsonFormat(), str(written(tmp_path / "x.json", content))))] == list(
        range(50)
    )


def test_text_lines(tmp_path):
    path = str(written(tmp_path / "a.txt", "l1\n\n \nl2\r\nl3"))
    assert [row["text"] for row in rows(source(TextFormat(), path))] == ["l1", "l2", "l3"]
    kept = rows(source(TextFormat(drop_empty=False), path))
    assert [row["text"] for row in kept] == ["l1", "", " ", "l2", "l3"]
    latin = str(written(tmp_path / "l.txt", "a\né\n".encode("latin-1")))
    with pytest.raises(ReadError, match="encoding") as caught:
        rows(source(TextFormat(), latin))
    assert caught.value.rows == (1, 2)
    assert rows(source(TextFormat("latin-1"), latin))[1] == {"text": "é"}
    wide = str(written(tmp_path / "w.txt", "a\n\u0a0ab\n".encode("utf-16")))
    assert [row["text"] for row in rows(source(TextFormat("utf-16"), wide))] == ["a", "\u0a0ab"]
    with pytest.raises(LookupError):
        TextFormat("nope")


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 50])
def test_pieces_of_a_file_have_each_line_once(tmp_path, monkeypatch, parts):
    monkeypatch.setattr(TextFormat, "piece_bytes", lambda self, path, compressed: 1)
    lines = [f"line {i} " + "x" * (i * 37 % 23) for i in range(40)]
    path = written(tmp_path / "a.txt", "\n".join(lines))
    read = source(TextFormat(), str(path))
    monkeypatch.setattr(type(read), "piece_bytes", lambda self, n: lambda entry: -(-path.stat().st_size // n))
    assert [row["text"] for row in rows(read, parts)] == lines
    assert parts - 1 <= len(list(read.tasks(parts))) <= parts


def test_whole_lines_lose_nothing():
    parts = [b"ab", b"c\nd", b"ef", b"\n", b"\n\nx"]
    cut = list(whole_lines(iter(parts)))
    assert b"".join(cut) == b"".join(parts) and all(block.endswith(b"\n") for block in cut[:-1])


def test_binary_files_are_few_tables(tmp_path):
    for i in range(50):
        written(tmp_path / f"{i:02}.bin", bytes([i]))
    read = source(BinaryFormat(), str(tmp_path), include_paths=True)
    assert [t.num_rows for t in tables(read)] == [50] and read.count() == 50
    assert rows(read)[3] == {"bytes": b"\x03", "path": str(tmp_path / "03.bin")}
    assert [task.rows for task in read.tasks(2)] == [25, 25]


def test_bytes_of_many_files_lie_in_columns_of_limited_size(tmp_path, monkeypatch):
    contents = [
        b"",
        b"a" * 10,
        bytes(2 << 20),
        b"b" * (5 << 20),
        b"",
        *(bytes([n]) * 700_000 for n in range(8)),
        b"end",
    ]
    for number, content in enumerate(contents):
        written(tmp_path / f"{number:02d}.bin", content)
    opened = []
    plain = os.open
    monkeypatch.setattr(os, "open", lambda path, *rest: opened.append(path) or plain(path, *rest))
    (task,) = source(BinaryFormat(), str(tmp_path)).tasks(1)
    tables = list(task.read(TaskContext()))
    assert [cell for table in tables for cell in table["bytes"].to_pylist()] == contents
    assert len(tables) > 2 and all(table.nbytes <= (5 << 20) + 4096 for table in tables)
    assert [os.path.basename(path) for path in opened] == [f"{number:02d}.bin" for number in range(len(contents))]


def test_bytes_are_decompressed_where_a_name_or_the_caller_says_so(tmp_path):
    packed = gzip.compress(b"text")
    written(tmp_path / "a.bin", b"plain")
    written(tmp_path / "b.GZ", packed)
    read = source(BinaryFormat(), str(tmp_path))
    assert [row["bytes"] for row in rows(read)] == [b"plain", b"text"]
    as_they_are = source(BinaryFormat(), str(tmp_path), arrow_open_stream_args={"compression": None})
    assert [row["bytes"] for row in rows(as_they_are)] == [b"plain", packed]


def test_numpy_arrays_are_rows(tmp_path):
    def read(name, array, **args):
        np.save(tmp_path / name, array, allow_pickle=True)
        return source(NumpyFormat(**args), str(tmp_path / name))

    assert rows(read("n.npy", np.arange(3)), 1) == [{"data": 0}, {"data": 1}, {"data": 2}]
    (table,) = tables(read("m.npy", np.arange(6).reshape(3, 2)))
    assert table["data"].combine_chunks().to_numpy_ndarray().tolist() == [[0, 1], [2, 3], [4, 5]]
    (table,) = tables(read("f.npy", np.asfortranarray(np.arange(6).reshape(3, 2))))
    assert table["data"].combine_chunks().to_numpy_ndarray().tolist() == [[0, 1], [2, 3], [4, 5]]
    assert rows(read("s.npy", np.array(["a", "bc"])))[1] == {"data": "bc"}
    with pytest.raises(ReadError, match="no axis"):
        rows(read("z.npy", np.array(5)))
    objects = np.array([{"a": 1}, "x"], dtype=object)
    with pytest.raises(ReadError, match="allow_pickle"):
        rows(read("o.npy", objects))
    assert len(rows(read("o.npy", objects, allow_pickle=True))) == 2
    np.savez(tmp_path / "z.npz", a=np.arange(3))
    with pytest.raises(ReadError, match="archive"):
        rows(source(NumpyFormat(), str(tmp_path / "z.npz")))
    path = tmp_path / "n.npy"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ReadError, match="ends within"):
        rows(source(NumpyFormat(), str(path)))


def test_images_are_arrays(tmp_path):
    from PIL import Image

    for i, size in enumerate([(8, 6), (8, 6), (4, 4)]):
        Image.fromarray(np.full((*size, 3), i * 9, np.uint8)).save(tmp_path / f"{i}.png")
    Image.fromarray(np.full((640, 480, 3), 7, np.uint8)).save(tmp_path / "j.jpg")
    shapes = [row["image"].shape for t in tables(source(ImageFormat(), str(tmp_path))) for row in cells(t)]
    assert shapes == [(8, 6, 3), (8, 6, 3), (4, 4, 3), (640, 480, 3)]
    (table,) = tables(source(ImageFormat((5, 4), "L"), str(tmp_path)))
    assert table["image"].combine_chunks().to_numpy_ndarray().shape == (4, 5, 4)
    written(tmp_path / "x.png", "no image")
    with pytest.raises(ReadError, match=r"x\.png.*no image"):
        rows(source(ImageFormat(), str(tmp_path)))
    with pytest.raises(ValueError, match="height, width"):
        ImageFormat((1, 2, 3))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="positive"):
        ImageFormat((0, 2))


def cells(table):
    from hpc.data.block.batch import rows as rows_of

    return rows_of(table)


def test_ranges():
    assert rows(RangeSource(5), 2) == [{"id": i} for i in range(5)]
    assert [task.rows for task in RangeSource(10).tasks(3)] == [4, 3, 3]
    assert rows(RangeSource(0)) == [] and rows(RangeSource(-1)) == [] and RangeSource(7).count() == 7
    (table,) = tables(RangeSource(2, (2, 2)), 1)
    assert table["data"].combine_chunks().to_numpy_ndarray().tolist() == [[[0, 0], [0, 0]], [[1, 1], [1, 1]]]
    assert [len(rows(RangeSource(10).with_limit(2), 1)), RangeSource(10).estimate().nbytes] == [2, 80]


def test_manifest_of_nothing_says_what_was_looked_for(tmp_path):
    with pytest.raises(ValueError, match="end in csv, tsv"):
        manifest.of([str(tmp_path)], None, ["csv", "tsv"], False)


def test_of_a_long_listing_the_whole_size_is_not_known():
    assert Estimate(None, 1000, 1023).whole_nbytes == 1000
    assert Estimate(None, 1000, 1024).whole_nbytes is None


def test_columns_of_one_name_are_an_error_of_the_file(tmp_path):
    path = written(tmp_path / "a.csv", "a,b,a\n1,2,3\n")
    with pytest.raises(ReadError, match=rf"{path}.*several columns of the names \['a'\]"):
        rows(source(CsvFormat(), str(path)))

"""The functions that read and write: parameters and defaults of Ray Data 2.60, and datasets of what is in memory."""

from __future__ import annotations

import base64
import inspect
import json
import os
import pickle
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from io_reading import rows, written

from hpc.data.expressions import col
from hpc.data.io import read_api, write_api
from hpc.data.io.outside import TorchSource
from hpc.data.io.partitioning import Partitioning

#: What `inspect.signature` said under Ray 2.60: a function on each line.
RAY = (Path(__file__).parent / "ray_data_signatures.txt").read_text().splitlines()
#: Parameters that Ray has not.
OURS = {"resume", "stage"}


def parameters(function, first=0):
    parts, star = [], False
    for one in list(inspect.signature(function).parameters.values())[first:]:
        if one.name in OURS:
            continue
        if one.kind is one.VAR_KEYWORD:
            parts.append(f"**{one.name}")
            continue
        if one.kind is one.KEYWORD_ONLY and not star:
            star = True
            parts.append("*")
        plain = isinstance(one.default, (int, str, float, bool, type(None), tuple, list))
        value = repr(one.default) if plain else f"<{getattr(one.default, 'value', type(one.default).__name__)}>"
        parts.append(one.name if one.default is one.empty else f"{one.name}={value}")
    return ", ".join(parts)


@pytest.mark.parametrize("line", RAY, ids=lambda line: line.partition("(")[0])
def test_parameters_are_those_of_ray(line):
    name = line.partition("(")[0]
    if name.startswith("Dataset."):
        found = parameters(getattr(write_api, name.removeprefix("Dataset.")), 1)
    else:
        found = parameters(getattr(read_api, name))
    assert f"{name}({found})" == line


@pytest.fixture(autouse=True)
def datasets(monkeypatch):
    """Datasets are the blocks, or the source with what it was given."""
    home = SimpleNamespace(from_blocks=list, from_source=lambda source, **given: (source, given))
    monkeypatch.setitem(sys.modules, "hpc.data.dataset", home)
    monkeypatch.setattr("hpc.data.io.from_api.cpus_of_session", lambda: 1.0)


def lists(blocks):
    return [block.to_pylist() for block in blocks]


def test_items():
    assert lists(read_api.from_items([1, 2, None])) == [[{"item": 1}, {"item": 2}], [{"item": None}]]
    assert lists(read_api.from_items([{"a": 1}, {"a": 2, "b": 3}])) == [[{"a": 1, "b": None}], [{"a": 2, "b": 3}]]
    assert [b.schema.types for b in read_api.from_items([None, 1.5])] == [[pa.float64()]] * 2
    assert [b.num_rows for b in read_api.from_items(list(range(10)), override_num_blocks=3)] == [4, 3, 3]
    assert [b.num_rows for b in read_api.from_items([1, 2], override_num_blocks=3)] == [1, 1]
    assert read_api.from_items([]) == []
    with pytest.raises(ValueError, match="override_num_blocks"):
        read_api.from_items([1], override_num_blocks=0)


def test_frames_arrays_and_tables():
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None]}, index=[5, 6])
    assert lists(read_api.from_pandas(frame)) == [[{"a": 1, "b": "x"}, {"a": 2, "b": None}]]
    assert [b.num_rows for b in read_api.from_pandas([frame, frame])] == [2, 2]
    assert [b.num_rows for b in read_api.from_pandas([frame, frame], override_num_blocks=3)] == [2, 1, 1]
    assert [b["data"].to_pylist() for b in read_api.from_numpy([np.arange(2), np.arange(3)])] == [[0, 1], [0, 1, 2]]
    with pytest.raises(TypeError, match="axis"):
        read_api.from_numpy(np.array(3))
    with pytest.raises(ValueError, match="at least one"):
        read_api.from_numpy([])
    table = pa.table({"a": [1]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    assert lists(read_api.from_arrow([table, sink.getvalue().to_pybytes()])) == [[{"a": 1}]] * 2
    assert read_api.from_arrow([]) == [] and read_api.from_pandas([]) == []
    assert lists(read_api.from_blocks([table, frame, {"c": [1]}]))[2] == [{"c": 1}]
    with pytest.raises(TypeError, match="pyarrow"):
        read_api.from_arrow(5)


class Squares:
    def __len__(self):
        return 5

    def __getitem__(self, index):
        return index * index, "x"


def test_torch_datasets():
    source, _ = read_api.from_torch(Squares())
    assert isinstance(source, TorchSource) and source.count() == 5
    assert [task.rows for task in source.tasks(2)] == [2, 3]
    assert [row["item"] for row in rows(source, 3)] == [(i * i, "x") for i in range(5)]
    source, _ = read_api.from_torch(iter([1, 2, 3]))
    assert rows(source) == [{"item": 1}, {"item": 2}, {"item": 3}]


def test_huggingface_datasets():
    pytest.importorskip("datasets", reason="needs the package datasets")
    import datasets

    data = datasets.Dataset.from_dict({"a": [3, 1, 2]})
    assert lists(read_api.from_huggingface(data)) == [[{"a": 3}, {"a": 1}, {"a": 2}]]
    assert lists(read_api.from_huggingface(data.sort("a"), override_num_blocks=2)) == [[{"a": 1}, {"a": 2}], [{"a": 3}]]
    source, _ = read_api.from_huggingface(data.to_iterable_dataset())
    assert rows(source) == [{"a": 3}, {"a": 1}, {"a": 2}]
    with pytest.raises(ValueError, match="train"):
        read_api.from_huggingface(datasets.DatasetDict({"train": data}))


def test_lance_datasets(tmp_path):
    lance = pytest.importorskip("lance", reason="needs pylance")
    uri = str(tmp_path / "a.lance")
    lance.write_dataset(pa.table({"a": list(range(10)), "b": ["x"] * 10}), uri, max_rows_per_file=4)
    source, _ = read_api.read_lance(uri)
    lance.write_dataset(pa.table({"a": [99], "b": ["later"]}), uri, mode="append")
    assert [row["a"] for row in rows(source, 2)] == list(range(10)) and source.count() == 10
    assert rows(read_api.read_lance(uri, columns=["a"], filter="a > 50")[0]) == [{"a": 99}]
    assert source.schema().names == ["a", "b"]


def test_delta_tables(tmp_path):
    deltalake = pytest.importorskip("deltalake", reason="needs deltalake")
    path = str(tmp_path / "t")
    deltalake.write_deltalake(path, pa.table({"a": [1, 2], "y": [2020, 2021]}), partition_by=["y"])
    deltalake.write_deltalake(path, pa.table({"a": [3], "y": [2021]}), mode="append")
    found = rows(read_api.read_delta(path)[0])
    assert sorted((row["a"], row["y"]) for row in found) == [(1, 2020), (2, 2021), (3, 2021)]
    assert len(rows(read_api.read_delta(path, 0)[0])) == 2
    assert sorted(row["a"] for row in rows(read_api.read_delta(path, columns=["a"])[0])) == [1, 2, 3]


#: The digits of Z85, in which Delta writes small deletion vectors into its log, in the order of Python's base85.
Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
B85 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"


def deletion_vector(places):
    """What the log says of deleted rows below 65,536: a roaring bitmap of one container."""
    bitmap = struct.pack("<IIHHI", 12346, 1, 0, len(places) - 1, 16) + struct.pack(f"<{len(places)}H", *places)
    whole = struct.pack("<IQI", 1681511377, 1, 0) + bitmap
    text = base64.b85encode(whole + bytes(-len(whole) % 4)).decode().translate(str.maketrans(B85, Z85))
    size = {"sizeInBytes": len(whole), "cardinality": len(places)}
    return {"storageType": "i", "pathOrInlineDv": text, **size}


def delete_rows(path, places):
    """The first commit's file loses some rows, by a deletion vector."""
    log = f"{path}/_delta_log"
    with open(f"{log}/{0:020}.json") as first:
        (add,) = [json.loads(line)["add"] for line in first if line.startswith('{"add"')]
    feature = ["deletionVectors"]
    said = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": feature, "writerFeatures": feature}
    removed = {"path": add["path"], "deletionTimestamp": 1, "dataChange": True}
    lines = [{"protocol": said}, {"remove": removed}, {"add": {**add, "deletionVector": deletion_vector(places)}}]
    number = len([name for name in os.listdir(log) if name.endswith(".json")])
    with open(f"{log}/{number:020}.json", "w") as commit:
        commit.write("\n".join(map(json.dumps, lines)))


def test_deleted_rows_of_delta_tables_are_left_out(tmp_path, monkeypatch):
    deltalake = pytest.importorskip("deltalake", reason="needs deltalake")
    path = str(tmp_path / "a table")
    groups = deltalake.WriterProperties(max_row_group_size=1000)
    table = pa.table({"x": list(range(5000)), "y": ["k 1"] * 5000})
    deltalake.write_deltalake(path, table, partition_by=["y"], writer_properties=groups)
    deltalake.write_deltalake(path, pa.table({"x": [6000, 6001], "y": ["k 2"] * 2}), mode="append")
    deleted = [0, 999, 1000, 2500, 4999]
    delete_rows(path, deleted)
    kept = [number for number in range(5000) if number not in deleted]
    source, _ = read_api.read_delta(path)
    assert source.count() == 4997 and sum(task.rows for task in source.tasks(4)) == 4997
    for parallelism in (1, 4):
        assert sorted(row["x"] for row in rows(source, parallelism)) == [*kept, 6000, 6001]
    assert len(pickle.dumps(list(source.tasks(1)))) < 20_000
    filtered = source.with_filter((col("x") >= 2000) & (col("x") < 3000))
    assert sorted(row["x"] for row in rows(filtered)) == [x for x in kept if 2000 <= x < 3000]
    assert len(rows(read_api.read_delta(path, 1)[0])) == 5002
    monkeypatch.delattr(deltalake.DeltaTable, "deletion_vectors")
    with pytest.raises(ValueError, match="deletionVectors, which this version of deltalake does not read"):
        read_api.read_delta(path)


def test_hashes_of_rows_tell_their_place_whatever_row_groups_are_left_out(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"x": [*range(30), *range(20, 40)]}), path, row_group_size=10)
    source, _ = read_api.read_parquet(str(path), include_row_hash=True)
    hashes = [row["row_hash"] for row in rows(source)]
    assert len(set(hashes)) == 50
    filtered = source.with_filter((col("x") < 10) | (col("x") >= 30))  # three row groups between are left out
    assert [row["row_hash"] for row in rows(filtered)] == hashes[:10] + hashes[40:]


@pytest.mark.parametrize(("name", "package"), [("read_lance", "pylance"), ("read_delta", "deltalake")])
def test_a_package_that_is_missing_is_named(name, package, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, {"pylance": "lance"}.get(package, package), None)
    with pytest.raises(ImportError, match=f"pip install {package}"):
        getattr(read_api, name)(str(tmp_path))


def test_read_functions_make_sources_and_options(tmp_path):
    path = str(written(tmp_path / "x.csv", "a\n1\n"))
    source, given = read_api.read_csv(path, num_cpus=2, override_num_blocks=3, ray_remote_args={"max_retries": 1})
    assert given == {"parallelism": 3, "num_cpus": 2, "ray_remote_args": {"max_retries": 1}} and rows(source) == [
        {"a": 1}
    ]
    with pytest.warns(DeprecationWarning, match="override_num_blocks"):
        assert read_api.read_csv(path, parallelism=2)[1] == {"parallelism": 2}
    for bad in (0, -2, "x"):
        with pytest.raises(ValueError, match="override_num_blocks"):
            read_api.range(5, override_num_blocks=bad)
    with pytest.raises(TypeError, match="nope"):
        read_api.read_csv(path, nope=1)
    with pytest.raises(TypeError, match="Partitioning"):
        read_api.read_csv(path, partitioning="hive")
    with pytest.raises(TypeError, match="PathPartitionFilter"):
        read_api.read_csv(path, partition_filter=lambda path: True)
    assert rows(read_api.read_text(path)[0]) == [{"text": "a"}, {"text": "1"}]
    assert isinstance(Partitioning("hive"), Partitioning)


def test_parquet_arguments(tmp_path):
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": [1, 2], "b": [3, 4]}), tmp_path / "x.parquet")
    assert rows(read_api.read_parquet(str(tmp_path), columns=["b"])[0]) == [{"b": 3}, {"b": 4}]
    assert len(list(next(read_api.read_parquet(str(tmp_path), batch_size=1)[0].tasks(1)).parts)) == 1
    for word, args in (("filter", {"filter": 1}), ("filters", {"filters": []})):
        with pytest.raises(ValueError, match=word):
            read_api.read_parquet(str(tmp_path), **args)
    with pytest.raises(TypeError, match="nope"):
        read_api.read_parquet(str(tmp_path), nope=1)
    with pytest.raises(ValueError, match="'zz'"):
        read_api.read_parquet(str(tmp_path), columns=["zz"])
    with pytest.raises(TypeError, match="Datasource"):
        read_api.read_datasource(5)

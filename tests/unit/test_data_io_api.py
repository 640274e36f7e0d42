"""The functions that read and write: parameters and defaults of Ray Data 2.60, and datasets of what is in memory."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from io_reading import rows, written

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

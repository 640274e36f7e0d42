"""HDF5, NetCDF and Zarr: rows along the first axis, in pieces of whole chunks."""

from __future__ import annotations

import numpy as np
import pytest
from io_reading import rows, source, tables, types, written

from hpc.data.io.errors import ReadError
from hpc.data.io.hdf5 import Hdf5Format, NetCdfFormat
from hpc.data.io.zarr_arrays import ZarrSource


@pytest.fixture
def hdf5(tmp_path):
    h5py = pytest.importorskip("h5py", reason="needs h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=np.arange(20).reshape(10, 2), chunks=(3, 2))
        file.create_dataset("g/y", data=np.arange(10) * 0.5)
        file.create_dataset("s", data=[f"n{i}" for i in range(10)], dtype=h5py.string_dtype())
    return tmp_path / "a.h5"


def test_datasets_are_columns(hdf5):
    read = source(Hdf5Format(), str(hdf5), include_paths=True)
    assert types(read) == {
        "g/y": "double", "s": "string", "x": "extension<arrow.fixed_shape_tensor[value_type=int64, shape=[2]]>",
        "path": "string",
    } or set(types(read)) == {"g/y", "s", "x", "path"}  # fmt: skip
    (table,) = tables(read)
    assert table["s"].to_pylist() == [f"n{i}" for i in range(10)] and table["g/y"][3].as_py() == 1.5
    assert table["x"].combine_chunks().to_numpy_ndarray().tolist() == np.arange(20).reshape(10, 2).tolist()
    assert rows(source(Hdf5Format(("g/y",)), str(hdf5)))[4] == {"g/y": 2.0}
    assert [t.column_names for t in tables(read.with_columns(["s"]))] == [["s"]]


def test_pieces_are_whole_chunks(hdf5, monkeypatch):
    monkeypatch.setattr("hpc.data.io.hdf5.PIECE", 100)
    monkeypatch.setattr("hpc.data.io.hdf5.TABLE", 50)
    read = source(Hdf5Format(("x", "g/y")), str(hdf5))
    found = list(read.tasks(10))
    assert [(task.parts[0].first, task.parts[0].end) for task in found] == [(0, 3), (3, 6), (6, 9), (9, 10)]
    assert [row["g/y"] for row in rows(read, 10)] == [i * 0.5 for i in range(10)]
    assert [task.rows for task in read.tasks(2)] == [6, 4] or sum(task.rows for task in read.tasks(2)) == 10
    assert [task.rows for task in read.without([(str(hdf5), 0, 6)]).tasks(1)] == [None] or rows(
        read.without([(str(hdf5), 0, 6)])
    )[0]["g/y"] == 3.0


def test_datasets_that_do_not_fit_are_named(hdf5, tmp_path):
    import h5py

    with h5py.File(hdf5, "a") as file:
        file.create_dataset("z", data=np.arange(3))
    with pytest.raises(ReadError, match="several lengths"):
        rows(source(Hdf5Format(), str(hdf5)))
    with pytest.raises(ReadError, match="no datasets"):
        rows(source(Hdf5Format(("nope",)), str(hdf5)))
    written(tmp_path / "b.h5", "no hdf5")
    with pytest.raises(ReadError, match=r"b\.h5"):
        rows(source(Hdf5Format(), str(tmp_path / "b.h5")))


def test_fields_of_records_are_columns(tmp_path):
    h5py = pytest.importorskip("h5py", reason="needs h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["t"] = np.array([(1, 2.5), (3, 4.5)], dtype=[("a", "i4"), ("b", "f8")])
    assert rows(source(Hdf5Format(), str(tmp_path))) == [{"a": 1, "b": 2.5}, {"a": 3, "b": 4.5}]


def test_netcdf_variables_along_a_dimension(tmp_path):
    h5netcdf = pytest.importorskip("h5netcdf", reason="needs h5netcdf")
    with h5netcdf.File(tmp_path / "a.nc", "w") as file:
        file.dimensions = {"time": None, "lat": 3}
        file.resize_dimension("time", 4)
        file.create_variable("time", ("time",), "i8")[:] = np.arange(4)
        file.create_variable("lat", ("lat",), "f4")[:] = np.arange(3)
        packed = file.create_variable("t", ("time", "lat"), "i2", fillvalue=-1)
        packed[:] = np.array([[0, 1, -1]] * 4)
        packed.attrs["scale_factor"], packed.attrs["add_offset"] = np.float32(0.5), np.float32(10)
    read = source(NetCdfFormat(), str(tmp_path))
    (table,) = tables(read)
    assert table.column_names == ["time", "t"] and table["time"].to_pylist() == [0, 1, 2, 3]
    cells = table["t"].combine_chunks().to_numpy_ndarray()
    assert cells[0, :2].tolist() == [10.0, 10.5] and np.isnan(cells[:, 2]).all()
    assert rows(source(NetCdfFormat(axis="lat"), str(tmp_path))) == [{"lat": 0.0}, {"lat": 1.0}, {"lat": 2.0}]
    for form, words in ((NetCdfFormat(("nope",)), "no variables"), (NetCdfFormat(axis="x"), "no dimension")):
        with pytest.raises(ReadError, match=words):
            rows(source(form, str(tmp_path)))


@pytest.fixture
def store(tmp_path):
    zarr = pytest.importorskip("zarr", reason="needs zarr")
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=2)
    group.create_array("x", shape=(5, 3), chunks=(2, 3), dtype="f4")[:] = np.arange(15).reshape(5, 3)
    group.create_array("sub/y", shape=(5,), chunks=(2,), dtype="i8")[:] = np.arange(5)
    return str(tmp_path / "a.zarr")


def test_chunks_are_rows(store):
    read = ZarrSource(store, array_paths=["sub/y"])
    found = rows(read)
    assert [row["chunk_index"] for row in found] == [[0], [1], [2]] and read.count() == 3
    assert found[2]["chunk_slices"] == [[4, 5]] and found[2]["array"] == "sub/y"
    assert ZarrSource(store, array_paths=["sub/y"], chunk_shapes=[5]).count() == 1
    assert [task.rows for task in ZarrSource(store, array_paths=["x"]).tasks(2)] == [1, 2]


def test_aligned_arrays_are_columns(store):
    read = ZarrSource(store, array_paths=["x", "sub/y"], aligned=True, overlap=1)
    found = [row for table in tables(read) for row in table.to_pylist()]
    assert [(row["t_start"], row["t_stop"]) for row in found] == [(0, 2), (2, 4), (4, 5)]
    assert [len(row["sub/y"]) for row in found] == [3, 3, 1]
    with pytest.raises(ValueError, match="one length"):
        ZarrSource(store, array_paths=["x", "sub/y"], aligned=True, chunk_shapes={"x": [3]})


def test_arrays_are_found_by_consolidated_metadata(store):
    import zarr

    with pytest.raises(ValueError, match="consolidated"):
        ZarrSource(store)
    assert [array.path for array in ZarrSource(store, scan=True).arrays] == ["sub/y", "x"]
    zarr.consolidate_metadata(store)
    assert ZarrSource(store).count() == 6
    for args, words in (
        ({"array_paths": ["nope"]}, "no array"), ({"array_paths": ["sub"]}, "is a group"),
        ({"overlap": 1}, "align_axis_0"), ({"chunk_shapes": [0]}, "above 0"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            ZarrSource(store, **args)


def test_what_is_no_zarr_store_is_said_with_its_path(tmp_path):
    pytest.importorskip("zarr", reason="needs zarr")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReadError, match=f"{tmp_path}/empty: there is no Zarr store"):
        ZarrSource(str(tmp_path / "empty"))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / ".zarray").write_text("{")
    with pytest.raises(ReadError, match=f"{tmp_path}/bad: "):
        ZarrSource(str(tmp_path / "bad"))
    with pytest.raises(FileNotFoundError):
        ZarrSource(str(tmp_path / "none"))

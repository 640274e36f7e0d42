"""Datasets in an object store: a server of moto stands for it."""

from __future__ import annotations

import logging

import numpy as np
import pyarrow.fs as pafs
import pytest

import hpc.data
from hpc.data.io.outputs import OutputFolder
from runtime.running import one_node


@pytest.fixture(scope="module", autouse=True)
def session():
    with one_node():
        yield


@pytest.fixture(scope="module")
def store():
    """The file system of a store with the bucket "bucket": credentials are its own, none are in the environment."""
    moto = pytest.importorskip("moto.server", reason="needs moto[server]")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    system = pafs.S3FileSystem(
        endpoint_override=f"http://{host}:{port}", access_key="a", secret_key="b", region="us-east-1",
        scheme="http", allow_bucket_creation=True,
    )  # fmt: skip
    system.create_dir("bucket")
    yield system
    server.stop()


def rows(row):
    return {"id": row["id"], "__key__": f"k{row['id']}", "txt": "x", "image": np.zeros((2, 2), np.uint8)}


WAYS = {
    "parquet": (["id", "txt"], "write_parquet", {}, "read_parquet"),
    "csv": (["id", "txt"], "write_csv", {}, "read_csv"),
    "json": (["id", "txt"], "write_json", {}, "read_json"),
    "orc": (["id", "txt"], "write_orc", {}, "read_orc"),
    "numpy": (["id"], "write_numpy", {"column": "id"}, "read_numpy"),
    "tfrecords": (["id"], "write_tfrecords", {}, "read_tfrecords"),
    "webdataset": (["__key__", "txt"], "write_webdataset", {}, "read_webdataset"),
    "images": (["image"], "write_images", {"column": "image"}, "read_images"),
}


@pytest.mark.parametrize("way", WAYS)
def test_all_formats_go_to_an_object_store_and_back(store, way):
    columns, write, args, read = WAYS[way]
    dataset = hpc.data.range(6, override_num_blocks=2).map(rows).select_columns(columns)
    getattr(dataset, write)(f"bucket/{way}", filesystem=store, **args)
    assert getattr(hpc.data, read)(f"bucket/{way}", filesystem=store).count() == 6
    getattr(dataset, write)(f"bucket/{way}", filesystem=store, mode="overwrite", **args)
    assert getattr(hpc.data, read)(f"bucket/{way}", filesystem=store).count() == 6


def test_a_part_of_an_object_store_is_one(store):
    part = pafs.SubTreeFileSystem("bucket", store)
    sink = OutputFolder("x", part, {})
    assert sink.whole_at_close
    hpc.data.range(6).write_parquet("part", filesystem=part)
    assert hpc.data.read_parquet("part", filesystem=part).count() == 6
    assert hpc.data.read_parquet("bucket/part", filesystem=store).count() == 6


def test_writes_to_an_object_store_go_on_and_leave_no_parts(store):
    hpc.data.range(6).write_parquet("bucket/from", filesystem=store)

    def failing(batch):
        if 4 in batch["id"]:
            raise RuntimeError("no")
        return batch

    source = hpc.data.read_parquet("bucket/from", filesystem=store, override_num_blocks=6)
    with pytest.raises(Exception, match="no"):
        source.map_batches(failing).write_parquet("bucket/to", filesystem=store, resume=True)
    for _ in range(2):
        source.write_parquet("bucket/to", filesystem=store, resume=True)
    found = hpc.data.read_parquet("bucket/to", filesystem=store).take_all()
    assert sorted(row["id"] for row in found) == list(range(6))
    names = [one.base_name for one in store.get_file_info(pafs.FileSelector("bucket/to", recursive=True))]
    assert not [name for name in names if name.startswith(".part")]


def test_what_is_not_in_a_store_is_said_with_its_path(store):
    with pytest.raises(FileNotFoundError, match="bucket/none"):
        hpc.data.read_parquet("bucket/none", filesystem=store)
    with pytest.raises(FileNotFoundError, match="other/none"):
        hpc.data.read_parquet("other/none", filesystem=store)
    with pytest.raises(ValueError, match="'overwrite' replaces"):
        hpc.data.range(1).write_csv("bucket/csv", filesystem=store, mode="error")

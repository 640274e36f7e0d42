"""Files of datasets in a session: written whole and read by tasks; a write that goes on after its driver died."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hpc import data
from hpc.data.io.errors import ReadError
from runtime.running import one_node


@pytest.fixture(scope="module", autouse=True)
def session():
    with one_node():
        yield


def files(path):
    return sorted(os.path.relpath(os.path.join(d, f), path) for d, _, fs in os.walk(path) for f in fs)


def numbers(path):
    """The column `id` of all parquet files, sorted."""
    found = [pq.read_table(path / name)["id"].to_pylist() for name in files(path) if name.endswith(".parquet")]
    return sorted(value for values in found for value in values)


def test_what_is_written_is_read_again(tmp_path):
    dataset = data.range(100, override_num_blocks=4)
    for form in ("parquet", "csv", "json"):
        path = str(tmp_path / form)
        getattr(dataset, f"write_{form}")(path)
        again = getattr(data, f"read_{form}")(path)
        assert sorted(row["id"] for row in again.take_all()) == list(range(100)), form
    assert len(files(tmp_path / "parquet")) == 4
    dataset.write_parquet(str(tmp_path / "parquet"), mode="overwrite", min_rows_per_file=100)
    assert len(files(tmp_path / "parquet")) == 1 and numbers(tmp_path / "parquet") == list(range(100))
    assert data.read_parquet(str(tmp_path / "parquet")).count() == 100


def test_a_corrupt_file_is_named_to_the_driver(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n3\n")
    with pytest.raises(ReadError, match=r"a\.csv.*Expected 2 columns"):
        data.read_csv(str(tmp_path)).take_all()


def test_copies_are_in_the_folder_of_the_session(tmp_path):
    import hpc

    (tmp_path / "a.csv").write_text("a\n1\n")
    assert data.read_csv(str(tmp_path), stage="node").take_all() == [{"a": 1}]
    staged = Path(hpc.get_runtime_context().get_temp_dir()) / "staged"
    assert [path.read_text() for path in staged.glob("*.csv")] == ["a\n1\n"]


PROGRAM = """
import sys, time
from hpc import data
import hpc
hpc.init(address="local", num_cpus=2, object_store_memory=64 << 20)
def wait(batch):
    time.sleep(0.05)
    return batch
data.range(200, override_num_blocks=40).map_batches(wait).write_parquet(sys.argv[1], resume=True)
"""


def test_a_write_whose_driver_was_killed_goes_on_exactly(tmp_path):
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    driver = subprocess.Popen(command, start_new_session=True)
    ledger = tmp_path / "_ledger"
    end = time.monotonic() + 60
    while not (ledger.is_dir() and len(list(ledger.glob("*.json"))) > 5):
        assert driver.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    entries = len(list(ledger.glob("*.json")))
    assert entries < 41, "the driver was killed too late to show anything"
    subprocess.run(command, check=True, timeout=120)
    assert numbers(tmp_path) == list(range(200))
    assert not [name for name in files(tmp_path) if ".part-" in name]

"""A session on a machine with accelerators, made of files: what its node offers, and what tasks are shown."""

from __future__ import annotations

import os

import pytest

import hpc
from hpc import spi
from hpc.util import tpu
from runtime.running import one_node

GKE = {"TPU_ACCELERATOR_TYPE": "v4-16", "TPU_TOPOLOGY": "2x2x2", "TPU_WORKER_ID": "0", "TPU_NAME": "my-tpu"}


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """Two GPUs of NVIDIA's and four chips of Google's."""
    root = tmp_path_factory.mktemp("machine")
    (root / "dev").mkdir()
    for name in ("nvidia0", "nvidia1", "accel0", "accel1", "accel2", "accel3"):
        (root / "dev" / name).touch(mode=0o666)
    for minor, bus in enumerate(("0000:01:00.0", "0000:02:00.0")):
        folder = root / "proc/driver/nvidia/gpus" / bus
        folder.mkdir(parents=True)
        (folder / "information").write_text(f"Model: NVIDIA H200\nDevice Minor: {minor}\n")
    with one_node({"HPC_PROBE_ROOT": str(root), **GKE}, num_cpus=1):
        yield


@hpc.remote(num_cpus=0)
def look(names: tuple[str, ...] = ("CUDA_VISIBLE_DEVICES", "TPU_VISIBLE_CHIPS")):
    ids = hpc.get_runtime_context().get_accelerator_ids()
    return {name: found for name, found in ids.items() if found}, [os.environ.get(name) for name in names]


def test_a_node_offers_what_was_found(session) -> None:
    (node,) = hpc.nodes()
    offered = {
        "GPU": 2,
        "TPU": 4,
        "accelerator_type:H200": 1,
        "accelerator_type:TPU-V4": 1,
        "my-tpu": 1,
        "TPU-v4-16-head": 1,
    }
    assert offered.items() <= node["Resources"].items()
    labels = {"ray.io/accelerator-type": "H200", "ray.io/tpu-slice-name": "my-tpu", "hpc.io/tpu-pod-type": "v4-16"}
    assert labels.items() <= node["Labels"].items()


def test_tasks_see_what_they_hold(session) -> None:
    assert hpc.get(look.remote()) == ({}, ["", None])
    ids, shown = hpc.get(look.options(num_gpus=1, resources={"TPU": 1}).remote())
    assert shown == [ids["GPU"][0], ids["TPU"][0]]
    assert hpc.get(look.options(resources={"TPU": 4}).remote())[1] == ["", None]  # the whole host, as it is
    assert hpc.get(look.options(accelerator_type="TPU-V4").remote())[0] == {}
    with pytest.raises(ValueError, match="TPU"):
        look.options(resources={"TPU": 3}).remote()


def test_a_rank_can_show_its_neighbours_devices_too(session) -> None:
    @hpc.remote(num_gpus=1)
    def rank():
        spi.show_devices("GPU", ["1", "0"])
        return os.environ["CUDA_VISIBLE_DEVICES"], hpc.get_gpu_ids()

    visible, own = hpc.get(rank.remote())
    assert visible == "1,0" and len(own) == 1


def test_a_host_knows_its_slice(session) -> None:
    found = tpu.get_current_pod_name, tpu.get_current_pod_worker_count, tpu.get_num_tpu_chips_on_node
    ask = hpc.remote(lambda: [question() for question in found])
    assert hpc.get(ask.remote()) == ["my-tpu", 2, 4]

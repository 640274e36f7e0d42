"""Slices of TPUs on a session whose nodes say that they have chips: reserved whole and in parts, and given back."""

from __future__ import annotations

import os
import textwrap
from collections import Counter

import pytest

import hpc
from hpc.cluster_utils import Cluster
from hpc.train import ControllerError, RunConfig, ScalingConfig, UserCallback, get_context, report
from hpc.train.trainer import DataParallelTrainer
from hpc.util import tpu
from runtime.running import eventually

STORE = 64 << 20
#: A stand-in for libtpu, whose answer follows from the host's number: 2 x 2 hosts with 2 x 2 chips, turned around.
LIBTPU = """
    import hpc

    class Chip:
        def __init__(self, *at): self.at = at
        def coordinates(self): return self.at

    class slice:
        @staticmethod
        def get_chip_coordinates():
            place = 3 - int(hpc.get_runtime_context().get_node_labels()["ray.io/tpu-worker-id"])
            x, y = 2 * (place % 2), 2 * (place // 2)
            return [Chip(x + i, y + j) for i in (0, 1) for j in (0, 1)]
"""


def hosts(name: str, pod_type: str, topology: str, count: int) -> list[dict]:
    """What each host of a slice is started with."""
    kind = f"accelerator_type:TPU-{pod_type.partition('-')[0].upper()}"
    return [
        {
            "num_cpus": 2,
            "object_store_memory": STORE,
            "resources": {"TPU": 4, name: 1, kind: 1, **({f"TPU-{pod_type}-head": 1} if worker == 0 else {})},
            "labels": {
                "ray.io/tpu-slice-name": name, "ray.io/tpu-worker-id": str(worker),
                "ray.io/tpu-topology": topology, "ray.io/tpu-pod-type": pod_type,
            },
        }
        for worker in range(count)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """A head without chips, a slice "square" of four hosts and two slices of two hosts each."""
    folder = tmp_path_factory.mktemp("libtpu")
    (folder / "libtpu").mkdir()
    (folder / "libtpu/__init__.py").touch()
    (folder / "libtpu/sdk.py").write_text(textwrap.dedent(LIBTPU))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": STORE})
    rows = hosts("square", "v6e-16", "4x4", 4)
    for name in "ab":
        rows += hosts(name, "v4-16", "2x2x2", 2)
    for row in rows:
        cluster.add_node(wait=False, **row)
    cluster.wait_for_nodes()
    with hpc.init(address=cluster.address, runtime_env={"py_modules": [str(folder / "libtpu")]}):
        yield
    cluster.shutdown()


@hpc.remote
def where(extra: str = "") -> tuple[str, str, int, str]:
    labels = hpc.get_runtime_context().get_node_labels()
    ids = hpc.get_runtime_context().get_accelerator_ids()["TPU"]
    return labels["ray.io/tpu-slice-name"], labels["ray.io/tpu-worker-id"], len(ids), extra


@pytest.fixture(autouse=True)
def all_idle(session):
    yield
    free = {"TPU": 32, "TPU-v4-16-head": 2, "TPU-v6e-16-head": 1}
    eventually(lambda: free.items() <= hpc.available_resources().items())


def test_slices_that_are_whole_and_idle_are_counted() -> None:
    assert (tpu.get_num_tpu_slices("2x2x2", "TPU-V4"), tpu.get_num_ready_tpu_slices("2x2x2", "v4")) == (2, 2)
    assert tpu.get_num_tpu_slices("4x4", "v6e") == 1 and tpu.get_num_tpu_slices("2x2x1", "v4") == 0
    assert len(tpu.get_tpu_nodes_for_slice("a")) == 2
    held = tpu.slice_placement_group("2x2x2", "v4")
    assert held.placement_group.wait(60)
    eventually(lambda: tpu.get_num_ready_tpu_slices("2x2x2", "v4") == 1)
    assert tpu.get_num_tpu_slices("2x2x2", "v4") == 2
    held.shutdown()
    held.shutdown()


def test_a_function_runs_on_each_host_of_one_slice() -> None:
    held = tpu.slice_placement_group("2x2x2", "v4")
    found = hpc.get(tpu.run_on_slice(where, "x", tpu_slice=held), timeout=60)
    assert len({name for name, *_ in found}) == 1
    assert sorted((worker, chips, extra) for _, worker, chips, extra in found) == [("0", 4, "x"), ("1", 4, "x")]
    held.shutdown()


def test_two_slices_are_two_and_each_can_have_its_group() -> None:
    held = tpu.slice_placement_group("2x2x2", "v4", num_slices=2, pg_per_slice=True, resources_per_bundle={"TPU": 2})
    assert (held.num_hosts, held.num_bundles, held.chips_per_host, held.devices_per_host) == (4, 8, 4, 4)
    assert held.bundle_resources == {"CPU": 1, "TPU": 2} and len(held.head_placement_groups) == 2
    with pytest.raises(ValueError, match="slice_placement_groups"):
        _ = held.slice_placement_group
    found = Counter(row[:2] for row in hpc.get(tpu.run_on_slice(where, tpu_slice=held), timeout=60))
    assert found == {(name, worker): 2 for name in "ab" for worker in "01"}
    (name,) = {row[0] for row in hpc.get(tpu.run_on_slice(where, tpu_slice=held, slice_index=1), timeout=60)}
    assert {"ray.io/tpu-slice-name": name} in held.bundle_label_selector[4:]
    held.release_head_pgs(0)
    held.release_head_pgs()
    assert held.head_placement_groups == []
    with pytest.raises(ValueError, match="Invalid slice_index"):
        held.release_head_pgs(2)
    held.shutdown()
    with pytest.raises(ValueError, match="shut down"):
        tpu.run_on_slice(where, tpu_slice=held)


def test_without_a_free_slice_nothing_is_held() -> None:
    held = tpu.SlicePlacementGroup("4x4", "v6e")
    with pytest.raises(TimeoutError, match="v6e-16 was free within"):
        tpu.SlicePlacementGroup("4x4", "v6e", head_reservation_timeout_s=0.2)
    chosen = tpu.SlicePlacementGroup(
        "2x2x2", "v4", num_slices=1, bundle_label_selector=[{"ray.io/tpu-slice-name": "b"}, {}]
    )
    assert {row[0] for row in hpc.get(tpu.run_on_slice(where, tpu_slice=chosen), timeout=60)} == {"b"}
    assert chosen.head_placement_groups == []
    chosen.shutdown()
    held.shutdown()


def test_arguments_that_make_no_sense() -> None:
    for wrong, text in (
        ({"topology": "3x3", "accelerator_version": "v6e"}, "TPUs of a slice|topology"),
        ({"topology": "4x4", "accelerator_version": "v9"}, "no TPU"),
        ({"topology": "4x4", "accelerator_version": "v6e", "bundle_label_selector": [{}]}, "1 entries for 4 bundles"),
        ({"topology": "4x4", "accelerator_version": "v6e", "chips_per_vm": 0}, "chips_per_vm"),
        ({"topology": "2x2x2", "accelerator_version": "v6e"}, "Invalid accelerator topology"),
    ):
        with pytest.raises(ValueError, match=text):
            tpu.SlicePlacementGroup(**wrong)
    with pytest.raises(TypeError, match="remote function"):
        tpu.run_on_slice(print, topology="4x4", accelerator_version="v6e")
    with pytest.raises(ValueError, match="are needed"):
        tpu.run_on_slice(where, topology="4x4")


def test_a_part_of_a_slice_is_hosts_side_by_side_and_others_take_the_other_part() -> None:
    first = tpu.subslice_placement_group("2x4", "v6e")
    second = tpu.subslice_placement_group("2x4", "v6e")
    for part, index, workers in ((first, 0, "23"), (second, 1, "01")):  # libtpu counts the other way round
        assert (part.slice_name, part.parent_topology, part.subslice_index) == ("square", "4x4", index)
        assert part.placement_group.wait(60) and (part.num_hosts, part.chips_per_host) == (2, 4)
        assert [labels["ray.io/tpu-worker-id"] for labels in part.bundle_label_selector] == list(workers)
    eventually(lambda: tpu.get_num_ready_tpu_slices("4x4", "v6e") == 0)
    with pytest.raises(RuntimeError, match="no idle part 2x2"):
        tpu.subslice_placement_group("2x2", "v6e")
    second.shutdown()
    eventually(lambda: hpc.available_resources()["TPU"] == 24)
    with pytest.raises(RuntimeError, match="no idle part"):
        tpu.subslice_placement_group("2x4", "v6e", subslice_index=0)
    one = tpu.subslice_placement_group("2x2", "v6e", subslice_index=3, resources_per_bundle={"TPU": 2})
    assert (one.num_hosts, one.bundle_resources) == (1, {"CPU": 1, "TPU": 2})
    for part in (first, one, one):
        part.shutdown()


def test_parts_that_no_slice_has() -> None:
    with pytest.raises(ValueError, match="use slice_placement_group"):
        tpu.subslice_placement_group("4x4", "v6e")
    with pytest.raises(ValueError, match="no slice that is there has a part 8x8"):
        tpu.subslice_placement_group("8x8", "v6e")
    with pytest.raises(ValueError, match="Invalid accelerator topology"):
        tpu.subslice_placement_group("3x3", "v6e")


def on_slices():
    """What each rank finds."""
    labels = hpc.get_runtime_context().get_node_labels()
    chips = len(hpc.get_runtime_context().get_accelerator_ids()["TPU"])
    rank = get_context().get_world_rank(), os.environ.get("MEGASCALE_SLICE_ID")
    report(
        {"slice": labels["ray.io/tpu-slice-name"], "host": labels["ray.io/tpu-worker-id"], "chips": chips, "at": rank}
    )


class Seen(UserCallback):
    def after_report(self, run_context, metrics, checkpoint):
        self.metrics = metrics


def train_on_slices(folder, count, kind="TPU-V4", topology="2x2x2") -> list[dict]:
    seen = Seen()
    DataParallelTrainer(
        on_slices,
        scaling_config=ScalingConfig(count, use_tpu=True, topology=topology, accelerator_type=kind),
        run_config=RunConfig(storage_path=str(folder), callbacks=[seen]),
    ).fit()
    return seen.metrics


def test_the_ranks_of_a_training_run_fill_whole_slices(tmp_path) -> None:
    one = train_on_slices(tmp_path, 2)
    assert len({row["slice"] for row in one}) == 1 and {row["host"] for row in one} == {"0", "1"}
    assert [row["chips"] for row in one] == [4, 4] and [row["at"] for row in one] == [(0, None), (1, None)]
    two = train_on_slices(tmp_path, 4)
    assert [row["at"] for row in two] == [(0, "0"), (1, "0"), (2, "1"), (3, "1")]
    assert two[0]["slice"] == two[1]["slice"] != two[2]["slice"] == two[3]["slice"]
    with pytest.raises(ControllerError, match="there are 1 whole slices TPU-V6E 4x4, and 2 are needed"):
        train_on_slices(tmp_path, 8, "TPU-V6E", "4x4")


def test_an_elastic_run_has_as_many_slices_as_are_free(tmp_path) -> None:
    held = tpu.slice_placement_group("2x2x2", "v4")
    assert held.placement_group.wait(60)
    eventually(lambda: tpu.get_num_ready_tpu_slices("2x2x2", "v4") == 1)
    assert len(train_on_slices(tmp_path, (2, 4))) == 2
    held.shutdown()
    eventually(lambda: tpu.get_num_ready_tpu_slices("2x2x2", "v4") == 2)
    assert len(train_on_slices(tmp_path, (2, 4))) == 4

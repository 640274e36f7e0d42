"""A rank sees the GPUs of its node's ranks, its own by LOCAL_RANK, by the variables of every vendor."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from hpc.core.accelerators.base import Device
from hpc.core.accelerators.ranks import numbers_of, show_to_rank
from hpc.core.node.rank_processes import Order, rank_environment
from hpc.core.node.spec import NodeSpec
from hpc.launch.granted import too_few_gpus
from hpc.train.ranks import by_local_rank

CUDA, ROCR = "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"


def gpus(*ids, vendor="nvidia"):
    return tuple(Device(ident, "GPU", vendor=vendor) for ident in ids)


def spec(devices, rank=0):
    return NodeSpec(
        session="s", node=1, rank=rank, world=2, dir="/d", interface="lo", interface_addr="127.0.0.1", cpus=8,
        granted_cpus=8, mem_bytes=1 << 30, devices=devices,
    )  # fmt: skip


def env_of(devices, local_rank=0, per_node=2, base=None, **said):
    order = Order(argv=["x"], per_node=per_node, nodes=2, env=said)
    return rank_environment(base or {}, spec(devices), order, local_rank)


def test_number_local_rank_is_a_ranks_own_also_where_each_has_several():
    assert by_local_rank([["2"], ["10"]]) == ("2", "10")
    assert by_local_rank([["0", "1"], ["2", "3"], ["4", "5"]]) == ("0", "2", "4", "1", "3", "5")
    assert by_local_rank([["GPU-a"], ["GPU-a"], ["GPU-b"]]) == ("GPU-a", "GPU-b")
    assert by_local_rank([[], []]) == ()


@pytest.mark.parametrize(
    ("ids", "vendor", "before", "shown"),
    [
        (["3", "1"], "nvidia", {}, {"CUDA_VISIBLE_DEVICES": "3,1"}),
        (["GPU-a", "GPU-b"], "nvidia", {"CUDA_VISIBLE_DEVICES": "GPU-b"}, {"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b"}),
        (["0", "1"], "amd", {ROCR: "4,5"}, {ROCR: "4,5", "HIP_VISIBLE_DEVICES": "0,1"}),
        (["0", "1"], "amd", {CUDA: "0"}, {CUDA: "0,1", "HIP_VISIBLE_DEVICES": "0,1"}),
        (["0", "1"], "intel", {}, {"ZE_AFFINITY_MASK": "0,1"}),
    ],
)  # fmt: skip
def test_each_vendors_variable_has_all_and_the_own_ones_have_their_numbers(ids, vendor, before, shown):
    environ = dict(before)
    devices = gpus(*ids, vendor=vendor)
    assert numbers_of(ids[1:], show_to_rank("GPU", ids, ids[1:], devices, environ)) == (1,)
    assert environ == shown
    assert numbers_of(ids[:1], show_to_rank("GPU", ids, ids[:1], devices, environ)) == (0,)


def test_an_instance_of_a_divided_gpu_is_seen_alone_because_cuda_takes_one():
    ids, environ = ["MIG-a", "MIG-b"], {}
    assert numbers_of(["MIG-b"], show_to_rank("GPU", ids, ["MIG-b"], gpus(*ids), environ)) == (0,)
    assert environ == {"CUDA_VISIBLE_DEVICES": "MIG-b"}


def test_where_the_user_forbids_to_set_the_variable_its_own_are_counted_in_what_is_visible():
    environ = {"RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1", "CUDA_VISIBLE_DEVICES": "5,3,1"}
    assert numbers_of(["1"], show_to_rank("GPU", ["3", "1"], ["1"], gpus("5", "3", "1"), environ)) == (2,)
    assert environ.pop("CUDA_VISIBLE_DEVICES") == "5,3,1"
    environ = {"CUDA_VISIBLE_DEVICES": "3,1"}
    assert show_to_rank("GPU", ["5"], ["5"], gpus("5", "3", "1"), environ, kept=["CUDA_VISIBLE_DEVICES"]) == ("3", "1")


def test_a_gpu_that_is_not_visible_is_named_instead_of_counted_wrongly():
    with pytest.raises(ValueError, match="device 7 of this process is not among those that are visible"):
        numbers_of(["7"], ("0", "1"))


def test_ranks_of_a_node_see_those_of_the_node_and_not_those_of_others_on_the_machine():
    part = gpus("2", "3")
    envs = [env_of(part, local_rank, base={"CUDA_VISIBLE_DEVICES": "0,1,2,3"}) for local_rank in (0, 1)]
    assert [env["CUDA_VISIBLE_DEVICES"] for env in envs] == ["2,3", "2,3"]
    assert "CUDA_VISIBLE_DEVICES" not in env_of(())
    assert env_of(part, CUDA_VISIBLE_DEVICES="9")["CUDA_VISIBLE_DEVICES"] == "9", "the launcher's word stays"


def test_each_rank_has_an_instance_of_its_own_of_a_divided_gpu():
    ids = ["MIG-a", "MIG-b"]
    assert [env_of(gpus(*ids), local_rank)["CUDA_VISIBLE_DEVICES"] for local_rank in (0, 1)] == ids


def test_more_ranks_than_gpus_see_all_of_them():
    assert env_of(gpus("0", "1"), 3, per_node=4)["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_that_ranks_have_no_gpu_of_their_own_is_said():
    def nodes(*counts):
        return [SimpleNamespace(hello={"devices": {"GPU": ["0"] * n} if n else {}}) for n in counts]

    assert "4 ranks on a node with 2 GPUs: those with LOCAL_RANK from 2 on" in too_few_gpus(nodes(4, 2), 4)
    assert [too_few_gpus(nodes(*counts), 4) for counts in ((4, 4), (8,), (0, 0), ())] == [""] * 4


def test_a_tpu_is_no_ranks_to_share():
    tpus = tuple(Device(str(i), "TPU", vendor="tpu") for i in range(4))
    assert not [name for name in env_of(tpus) if "VISIBLE" in name]

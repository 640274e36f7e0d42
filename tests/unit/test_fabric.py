"""What network libraries are told: by the interface, the devices that are up, the site profile, and the user first."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpc.core.node.fabric_devices import find
from hpc.core.policy.fabric import SLINGSHOT, FabricDevice, environment, read_profile

IB = FabricDevice("mlx5_0", "infiniband", 1, ("ib0",))
ROCE = FabricDevice("mlx5_2", "ethernet", 1, ("eth2",))
CXI = FabricDevice("cxi0", "slingshot", 1, ("hsn0",))


def test_every_node_names_the_interface_of_its_address():
    assert environment("eth0", (), {}, {}) == {
        "GLOO_SOCKET_IFNAME": "eth0", "TP_SOCKET_IFNAME": "eth0", "NCCL_SOCKET_IFNAME": "=eth0",
    }  # fmt: skip
    assert environment("", (), {}, {}) == {}


def test_devices_of_one_sort_are_left_to_the_libraries():
    assert "NCCL_IB_HCA" not in environment("ib0", (IB, IB), {}, {})
    assert "NCCL_IB_HCA" not in environment("eth2", (ROCE,), {}, {})


@pytest.mark.parametrize(
    ("interface", "device", "name"), [("ib0", IB, "mlx5_0:1"), ("eth2", ROCE, "mlx5_2:1"), ("eth0", IB, "mlx5_0:1")]
)
def test_of_two_sorts_of_devices_that_of_the_interface_is_used_else_infiniband(
    interface: str, device: FabricDevice, name: str
):
    found = environment(interface, (ROCE, IB), {}, {})
    assert found["NCCL_IB_HCA"] == f"={name}"
    assert found["UCX_NET_DEVICES"] == f"{name},{interface}"


def test_slingshot_uses_all_links_and_what_its_maker_recommends():
    found = environment("hsn0", (CXI,), {}, {})
    assert found["NCCL_SOCKET_IFNAME"] == "hsn" and found["GLOO_SOCKET_IFNAME"] == "hsn0"
    assert found.items() >= SLINGSHOT.items()
    assert environment("bond0", (CXI,), {}, {})["NCCL_SOCKET_IFNAME"] == "=bond0", "the user has named another"


def test_the_profile_wins_over_the_table_and_the_user_over_both():
    profile = read_profile("NCCL_NET='AWS Libfabric' NCCL_SOCKET_IFNAME=hsn0,hsn1 FI_PROVIDER=cxi")
    found = environment("hsn0", (CXI,), profile, {"FI_PROVIDER": "tcp", "GLOO_SOCKET_IFNAME": ""})
    assert found["NCCL_NET"] == "AWS Libfabric" and found["NCCL_SOCKET_IFNAME"] == "hsn0,hsn1"
    assert "FI_PROVIDER" not in found and "GLOO_SOCKET_IFNAME" not in found


@pytest.mark.parametrize("text", ["NCCL_NET", "1A=2", "A='b", "=x"])
def test_a_profile_that_cannot_be_read_is_refused(text: str):
    with pytest.raises(ValueError):
        read_profile(text)


def test_devices_are_found_by_the_files_of_the_kernel_and_only_those_that_are_up(tmp_path: Path):
    for name, state, layer, net in (
        ("mlx5_10", "4: ACTIVE", "InfiniBand", "ib1"), ("mlx5_2", "4: ACTIVE", "Ethernet", "eth2"),
        ("mlx5_3", "1: DOWN", "InfiniBand", "ib3"),
    ):  # fmt: skip
        port = tmp_path / "sys/class/infiniband" / name / "ports/1"
        port.mkdir(parents=True)
        (port / "state").write_text(state + "\n")
        (port / "link_layer").write_text(layer + "\n")
        (port.parents[1] / "device/net" / net).mkdir(parents=True)
    (tmp_path / "sys/class/cxi/cxi0/device/net/hsn0").mkdir(parents=True)
    assert find(str(tmp_path)) == (
        FabricDevice("mlx5_2", "ethernet", 1, ("eth2",)), FabricDevice("mlx5_10", "infiniband", 1, ("ib1",)), CXI,
    )  # fmt: skip
    assert find(str(tmp_path / "nowhere")) == ()

"""What a gang is made of, without MPI: the work that is sent, the variables of a rank, and actors that share a fate."""

from __future__ import annotations

import pytest

from hpc import mpi
from hpc.mpi.work import Given, Work, prepare
from hpc.mpi.world import fabric_devices, network_environment


def test_the_function_goes_once_and_each_ranks_values_beside_it():
    work, given = prepare(print, (1, mpi.per_rank(["a", "b"])), {"sep": mpi.per_rank([3, 4])}, 2)
    assert work == Work(print, (1, Given(0)), {"sep": Given(1)})
    assert given == [["a", 3], ["b", 4]]


def test_a_rank_is_called_with_its_own_values():
    work, given = prepare(lambda comm, *args, **kwargs: (comm, args, kwargs), (1, mpi.per_rank("xy")), {"z": 2}, 2)
    assert [work.call("world", mine) for mine in given] == [
        ("world", (1, "x"), {"z": 2}),
        ("world", (1, "y"), {"z": 2}),
    ]


def test_values_for_another_number_of_ranks_are_refused():
    with pytest.raises(ValueError, match="2 values for a gang of 3"):
        prepare(print, (mpi.per_rank([1, 2]),), {}, 3)
    with pytest.raises(TypeError, match="a gang runs a function"):
        prepare("print", (), {}, 1)


def test_the_network_of_the_session_is_named_and_a_fabric_stays():
    assert network_environment("ib0", ["mlx5_0:1"], {}) == {
        "FI_TCP_IFACE": "ib0", "FI_SOCKETS_IFACE": "ib0", "UCX_NET_DEVICES": "mlx5_0:1,ib0"
    }  # fmt: skip
    assert network_environment("eth0", [], {"UCX_NET_DEVICES": "all", "FI_TCP_IFACE": "x"}) == {
        "FI_SOCKETS_IFACE": "eth0"
    }
    assert network_environment(None, ["mlx5_0:1"], {}) == {}


def test_devices_for_rdma_are_named_as_ucx_names_them(tmp_path):
    for port in ("mlx5_0/ports/1", "mlx5_1/ports/1", "mlx5_1/ports/2"):
        (tmp_path / port).mkdir(parents=True)
    assert fabric_devices(str(tmp_path)) == ["mlx5_0:1", "mlx5_1:1", "mlx5_1:2"]
    assert fabric_devices(str(tmp_path / "none")) == []

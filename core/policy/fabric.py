"""The environment of network libraries: one table, from a node's interface, its fabric devices and the site profile.

A supervisor sets it once, ahead of all that it starts. So plain ranks, the workers of training and groups of
`hpc.collective` have the same. What is set already stays: by the user, by a module, by the site's own login scripts.

    every node                    GLOO_SOCKET_IFNAME, TP_SOCKET_IFNAME, NCCL_SOCKET_IFNAME: the session's interface
    two sorts of RDMA devices     NCCL_IB_HCA, UCX_NET_DEVICES: those of the sort that the interface is of
    Slingshot (/sys/class/cxi)    NCCL_SOCKET_IFNAME=hsn, and what `SLINGSHOT` has for NCCL and libfabric
    the profile's `fabric_env`    wins over all of these rows

Rows are left out where libraries choose well by themselves. FI_PROVIDER and NCCL_NET are for profiles alone. A library
that lacks what they name ends, instead of taking something slower.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct

Kind = Literal["infiniband", "ethernet", "slingshot"]

#: What HPE recommends for NCCL on Slingshot: github.com/HewlettPackard/shs-ccl-docs, ccl_env.sh (2026). Its further
#: values are for one kind of node or one version. Host registration by default can block where CUDA allocates memory.
SLINGSHOT = {
    "NCCL_CROSS_NIC": "1",
    "NCCL_NET_GDR_LEVEL": "PHB",
    "FI_CXI_DISABLE_HOST_REGISTER": "1",
    "FI_CXI_DEFAULT_CQ_SIZE": "131072",
    "FI_MR_CACHE_MONITOR": "userfaultfd",
}


class FabricDevice(Struct, frozen=True):
    """A device of a fast network that is up: its name for its libraries, with the port, and its interfaces."""

    name: str
    kind: Kind
    port: int = 1
    interfaces: tuple[str, ...] = ()


#: For ranks. torch asks a name server for the name of each peer's address, to have it in messages. Where none answers,
#: as on nodes without a way out, each question takes 10 s, and a start several of them.
NAME_LOOKUPS = {"RES_OPTIONS": "timeout:1 attempts:2"}


def environment(
    interface: str, devices: Sequence[FabricDevice], profile: Mapping[str, str], environ: Mapping[str, str]
) -> dict[str, str]:
    """What is to be set on a node, beside what `environ` has set already.

    interface: that of the session's address; "" where it has no name. profile: variables of the site profile.
    """
    rows: dict[str, str] = {}
    if interface:
        rows = {
            "GLOO_SOCKET_IFNAME": interface,
            "TP_SOCKET_IFNAME": interface,
            "NCCL_SOCKET_IFNAME": f"={interface}",
        }
    if any(device.kind == "slingshot" for device in devices):
        if interface.startswith("hsn"):  # with a prefix all of the node's links are used
            rows["NCCL_SOCKET_IFNAME"] = "hsn"
        rows |= SLINGSHOT
    rows |= _of_one_sort(interface, [device for device in devices if device.kind != "slingshot"])
    return {name: value for name, value in (rows | dict(profile)).items() if name not in environ}


def _of_one_sort(interface: str, devices: Sequence[FabricDevice]) -> dict[str, str]:
    """A node that has InfiniBand and RDMA over Ethernet has one of them for storage: libraries would take both."""
    if len({device.kind for device in devices}) < 2:
        return {}
    kind = next((device.kind for device in devices if interface in device.interfaces), "infiniband")
    names = [f"{device.name}:{device.port}" for device in devices if device.kind == kind]
    return {"NCCL_IB_HCA": "=" + ",".join(names), "UCX_NET_DEVICES": ",".join([*names, *filter(None, [interface])])}


def read_profile(text: str) -> dict[str, str]:
    """The variables of `fabric_env`: NAME=VALUE, with quotes as in a shell. Raises ValueError for what is none."""
    found = dict[str, str]()
    for word in shlex.split(text):
        name, equals, value = word.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"fabric_env is {text!r}; {word!r} is no NAME=VALUE")
        found[name] = value
    return found

"""The devices of fast networks that a node has, from the files of the kernel."""

from __future__ import annotations

import os

from hpc.core.natural import natural
from hpc.core.policy.fabric import FabricDevice


def find(root: str = "/") -> tuple[FabricDevice, ...]:
    """The devices of this node whose link is up."""
    found: list[FabricDevice] = []
    rdma = os.path.join(root, "sys/class/infiniband")
    for name in _names(rdma):
        interfaces = tuple(_names(os.path.join(rdma, name, "device/net")))
        for port in _names(os.path.join(rdma, name, "ports")):
            folder = os.path.join(rdma, name, "ports", port)
            # "4: ACTIVE"
            if port.isdigit() and _text(folder, "state").startswith("4"):
                ethernet = _text(folder, "link_layer").lower() == "ethernet"
                found.append(FabricDevice(name, "ethernet" if ethernet else "infiniband", int(port), interfaces))
    cxi = os.path.join(root, "sys/class/cxi")
    for name in _names(cxi):
        found.append(FabricDevice(name, "slingshot", 1, tuple(_names(os.path.join(cxi, name, "device/net")))))
    return tuple(found)


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder), key=natural)
    except OSError:
        return []


def _text(folder: str, name: str) -> str:
    try:
        with open(os.path.join(folder, name)) as file:
            return file.read().strip()
    except OSError:
        return ""

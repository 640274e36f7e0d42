"""This node's address."""

from __future__ import annotations

import socket

from hpc.api.connection import is_initialized
from hpc.core.variables import INSTANCE_ID, text
from hpc.runtime_context import get_runtime_context
from hpc.state.nodes import nodes


def get_node_instance_id() -> str:
    """What the environment's HPC_CLOUD_INSTANCE_ID (or RAY_CLOUD_INSTANCE_ID) says of this machine; empty without."""
    return text(INSTANCE_ID)


def get_node_ip_address(address: str | None = None) -> str:
    """The address that this process's node listens on. Without a session, or on a gateway, it is the one from which
    this machine would reach `address` ("host:port"; None: a public one). Nothing is sent there."""
    if is_initialized():
        here = get_runtime_context().get_node_id()
        found = [row["NodeManagerAddress"] for row in nodes() if row["NodeID"] == here]
        if found and found[0]:
            return str(found[0])
    host, _, port = (address or "8.8.8.8:53").rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, int(port)))
        except OSError:  # no route, or no name of that kind: this machine is by itself
            return "127.0.0.1"
        return str(probe.getsockname()[0])

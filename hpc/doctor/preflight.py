"""The network and the GPUs of a session's nodes, measured for `hpc-launch --preflight`: what is slow, and where."""

from __future__ import annotations

import json
import sys
from typing import Any

import hpc
from hpc.doctor import network


def measure() -> dict[str, Any]:
    """``rows``: findings. ``unfit``: the ids of the nodes that should be left out."""
    nodes = [node for node in hpc.nodes() if node["Alive"]]
    links, copies = network.measure(nodes)
    hosts = [str(node["NodeManagerHostname"]) for node in nodes]
    names = [f"{host}#{i}" if hosts.count(host) > 1 else host for i, host in enumerate(hosts)]
    unfit = network.unfit(len(nodes), links, copies)
    return {
        "rows": [finding.row() for finding in network.findings(names, links, copies)],
        "unfit": [int(nodes[at]["NodeID"]) for at in unfit],
    }


if __name__ == "__main__":
    hpc.init(log_to_driver=False)
    with open(sys.argv[1], "w") as file:
        json.dump(measure(), file)

"""Dask on the nodes: a scheduler on the first, and one worker on each, with all threads and memory of the node.

Every connection is TLS, and both ends show the one certificate of the job. Its key is a file of mode 0600 in the job's
folder. The user's `Client()` finds scheduler and certificate by Dask's own variables. The scheduler's web server
listens on 127.0.0.1 alone.
"""

from __future__ import annotations

import os
from typing import ClassVar

from hpc.launchers.node_program import NodeProgram
from hpc.launchers.runtimes.face import RuntimeFault, RuntimeNode, Steps, Wish, others, part
from hpc.launchers.runtimes.files import write_certificate


class DaskCluster:
    """Dask's distributed scheduler."""

    name: ClassVar[str] = "dask"
    title: ClassVar[str] = "Dask"
    module: ClassVar[str] = "distributed"
    installs: ClassVar[str] = "distributed"
    driver_needs_node: ClassVar[bool] = False

    def steps(self, wish: Wish) -> Steps:
        if wish.args:
            raise RuntimeFault(
                "--runtime-arg means nothing to Dask, which is started without its commands",
                fix="DASK_... variables, or Dask's own configuration files",
            )
        env = environment(*write_certificate(wish.keys))
        first = wish.nodes[0]
        heard = yield {first.number: worker(first, None, env)}
        address = str(heard[first.number]["address"])
        if len(wish.nodes) > 1:
            yield {node.number: worker(node, address, env) for node in others(wish.nodes)}
        return {**env, "DASK_SCHEDULER_ADDRESS": address}


def environment(cert: str, key: str) -> dict[str, str]:
    """Dask's configuration as variables: who is spoken to, and with which certificate."""
    tls = {"CA_FILE": cert}
    for role in ("CLIENT", "SCHEDULER", "WORKER"):
        tls |= {f"{role}__CERT": cert, f"{role}__KEY": key}
    found = {f"DASK_DISTRIBUTED__COMM__TLS__{name}": path for name, path in tls.items()}
    return {**found, "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "True"}


def worker(node: RuntimeNode, scheduler: str | None, env: dict[str, str]) -> NodeProgram:
    """The part of a node; without the address of a scheduler it has that too."""
    order = {
        "part": "dask", "scheduler": scheduler, "host": node.addr, "name": node.name, "nthreads": max(1, node.cpus),
        "memory_limit": node.mem_bytes, "folder": os.path.join(node.folder, "dask"),
    }  # fmt: skip
    return part(order, {**env, "DASK_SCHEDULER_ADDRESS": None})

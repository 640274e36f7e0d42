"""Ray on the nodes: `ray start --block` under each supervisor, a head on the first node.

All ports are chosen on the node, so that two sessions on one machine never meet. Ray's folder is the node's own, of
mode 0700, and its name leaves room for Ray's socket paths. CPUs, GPUs and memory are what the scheduler granted. Where
this Ray knows of tokens, every process shows one to every other, from a file of mode 0600.
Ray ends as the node's supervisor ends everything: `ray stop` looks for all Ray processes of a machine by their names.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
from typing import ClassVar

from hpc.launchers.node_program import NodeProgram
from hpc.launchers.runtimes.face import RuntimeFault, RuntimeNode, Steps, Wish, others, part
from hpc.launchers.runtimes.files import write_secret
from hpc.launchers.runtimes.part import FREE_PORT, SHORT_FOLDER

#: What Ray puts below its folder: session_2026-11-29_16-10-56_123456_1234567/sockets/plasma_store.
SOCKET_BYTES = len("/session_2026-11-29_16-10-56_123456_1234567/sockets/plasma_store.1")
MAX_SOCKET_PATH = 107
#: Part of a node's memory for objects, as Ray divides a machine's.
STORE_SHARE = 0.3
MAX_STORE_BYTES = 200_000_000_000
MIN_STORE_BYTES = 80_000_000
#: From this version on each node of a cluster has a folder of its own; before, all had the head's.
OWN_FOLDERS = (2, 60)
ADDRESS = r"--address='(?P<address>[^']+)'"
STARTED = r"Ray runtime started"


class RayCluster:
    """Ray."""

    name: ClassVar[str] = "ray"
    title: ClassVar[str] = "Ray"
    module: ClassVar[str] = "ray"
    installs: ClassVar[str] = "ray"
    driver_needs_node: ClassVar[bool] = True

    def steps(self, wish: Wish) -> Steps:
        token = os.path.join(wish.keys, "ray-token")
        write_secret(token, secrets.token_hex(32))
        env = environment(token)
        head = wish.nodes[0]
        heard = yield {head.number: _program(wish, head, head_command(head, wish), ADDRESS, env)}
        address = str(heard[head.number]["address"])
        if len(wish.nodes) > 1:
            yield {
                node.number: _program(wish, node, worker_command(node, address, wish), STARTED, env)
                for node in others(wish.nodes)
            }
        variables = {name: value for name, value in env.items() if value is not None}
        return {**variables, "RAY_ADDRESS": address}


def version() -> tuple[int, ...]:
    """Of the Ray in this Python; the oldest where it does not say."""
    import importlib.metadata

    try:
        text = importlib.metadata.version("ray")
    except importlib.metadata.PackageNotFoundError:
        return (0,)
    return tuple(int(number) for number in re.findall(r"\d+", text)[:2])


def environment(token: str) -> dict[str, str | None]:
    """What all processes of the cluster have, the driver among them."""
    return {
        "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": token, "RAY_AUTH_TOKEN": None, "RAY_ADDRESS": None,
        "RAY_USAGE_STATS_ENABLED": "0",
    }  # fmt: skip


def folder_of(node: RuntimeNode, wish: Wish) -> str:
    """Where Ray keeps its files on the node. A folder of its own in /tmp, where its sockets would have too long names.
    RuntimeFault if the user has said where it is to be."""
    folder = os.path.join(node.folder, "r")
    if len(os.fsencode(folder)) + SOCKET_BYTES > MAX_SOCKET_PATH:
        if not wish.folders_chosen:
            return SHORT_FOLDER
        room = MAX_SOCKET_PATH - SOCKET_BYTES - len(os.path.basename(node.folder)) - 3
        what = f"the folder of {node.name} is too long for the names of Ray's sockets"
        raise RuntimeFault(what, why=f"{folder}: at most {room} bytes ahead of its last parts", fix="--tmpdir=/tmp")
    return folder


def head_command(node: RuntimeNode, wish: Wish) -> list[str]:
    """`ray start` of the first node. Its port is the kernel's choice; Ray says it with the address."""
    own = ["--head", "--port=0", "--include-dashboard=false", f"--ray-client-server-port={FREE_PORT}"]
    return [*_START, *own, *_of_node(node, wish), *wish.args]


def worker_command(node: RuntimeNode, address: str, wish: Wish) -> list[str]:
    """`ray start` of any other node."""
    return [*_START, f"--address={address}", *_of_node(node, wish), *wish.args]


_START = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
_PORTS = (
    "--object-manager-port=0", "--node-manager-port=0", "--min-worker-port=0", "--max-worker-port=0",
    "--dashboard-agent-listen-port=0", "--dashboard-agent-grpc-port=0", "--runtime-env-agent-port=0",
    "--metrics-export-port=0",
)  # fmt: skip


def _of_node(node: RuntimeNode, wish: Wish) -> list[str]:
    store = max(MIN_STORE_BYTES, min(MAX_STORE_BYTES, int(node.mem_bytes * STORE_SHARE)))
    offered = [f"--num-cpus={node.cpus}", f"--num-gpus={len(node.gpus)}"]
    offered += [f"--memory={max(0, node.mem_bytes - store)}", f"--object-store-memory={{shared:{store}}}"]
    if not node.offers:
        offered = ["--num-cpus=0", "--num-gpus=0", "--memory=0", f"--object-store-memory={{shared:{store}}}"]
    return [f"--node-ip-address={node.addr}", f"--temp-dir={folder_of(node, wish)}", *_PORTS, *offered]


def _program(wish: Wish, node: RuntimeNode, argv: list[str], up: str, env: dict[str, str | None]) -> NodeProgram:
    order: dict[str, object] = {"part": "command", "argv": argv, "up": up}
    order["log"] = os.path.join(node.folder, "logs", "ray.log")
    head = wish.nodes[0]
    if folder_of(node, wish) == SHORT_FOLDER:
        order["short"] = [wish.session, node.number]
    if node is not head and version() < OWN_FOLDERS:
        order["foreign"] = head.folder
    return part(order, {**env, **node.device_env})

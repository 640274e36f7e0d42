"""The public name `Cluster`: nodes on this machine, for tests, each with its own resources and labels.

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    node = cluster.add_node(num_cpus=1, resources={"gpu_like": 1}, labels={"zone": "b"})
    cluster.wait_for_nodes()
    hpc.init(address=cluster.address)
    cluster.remove_node(node, allow_graceful=False)     # kill -9, as a crash of the machine would be
    cluster.shutdown()

Each node is a supervisor of its own with raylet, zygote and workers, as on a real machine. Only the network between
them is not real. Rejected: several raylets in one process (they would die together).
"""

from __future__ import annotations

import atexit
import time
from collections.abc import Mapping
from typing import Any

from hpc.core.exceptions import SessionStartError
from hpc.launchers.local.group import BEARERS, LocalGroup
from hpc.launchers.local.nursery import Nursery, end_nursery, keep_nursery
from hpc.launchers.session import Session
from hpc.launchers.session_errors import SessionError
from hpc.launchers.session_nodes import SessionNode
from hpc.launchers.session_thread import SessionThread
from hpc.settings.node import overrides
from hpc.settings.preloaded import PRELOADED

START_TIMEOUT_S = 60.0
REMOVE_GRACE_S = 2.0
REMOVE_TIMEOUT_S = 30.0
POLL_S = 0.02
DEFAULT_STORE_BYTES = 150 * 1024 * 1024

#: Arguments of Ray's nodes that mean nothing here.
_MEANINGLESS = {
    "include_dashboard", "dashboard_host", "dashboard_port", "node_ip_address", "node_name", "redis_port",
    "redis_password", "raylet_socket_name", "plasma_store_socket_name", "plasma_directory", "temp_dir", "huge_pages",
    "min_worker_port", "max_worker_port", "worker_port_list", "ray_client_server_port", "enable_object_reconstruction",
    "_system_config",
}  # fmt: skip


class ClusterNode:
    """A node of a `Cluster`, as `add_node` returns it."""

    def __init__(self, cluster: Cluster, info: SessionNode, is_head: bool) -> None:
        self._cluster = cluster
        self._info = info
        self.number = info.node
        self.head = is_head

    @property
    def node_id(self) -> str:
        """The node's number as text: what `hpc.nodes()` calls NodeID."""
        return str(self.number)

    unique_id = node_id

    @property
    def address(self) -> str:
        """The session's address."""
        return self._cluster.address

    @property
    def node_ip_address(self) -> str:
        """The address that the node listens on."""
        return str(self._info.hello.get("addr", ""))

    @property
    def node_dir(self) -> str:
        """The directory of the node's sockets and logs; an address for `hpc.init`."""
        return str(self._info.hello.get("dir", ""))

    @property
    def raylet_socket_name(self) -> str:
        """The raylet's socket."""
        return f"{self.node_dir}/raylet.sock"

    @property
    def pid(self) -> int:
        """The process id of the node's supervisor."""
        return int(self._info.hello.get("pid", 0))

    def get_session_dir_path(self) -> str:
        """The same as `node_dir`."""
        return self.node_dir

    def any_processes_alive(self) -> bool:
        """Whether anything of the node is left."""
        return self._info.state != "gone"

    def __repr__(self) -> str:
        return f"ClusterNode({self.number}, {self._info.state})"


class Cluster:
    """Nodes of one session on this machine, driven by a thread of this process.

    initialize_head: start the head's node at once, with `head_node_args` (the arguments of `add_node`).
    connect: then also `hpc.init` to it. shutdown_at_exit: end everything with the interpreter.
    """

    def __init__(
        self,
        initialize_head: bool = False,
        connect: bool = False,
        head_node_args: Mapping[str, Any] | None = None,
        shutdown_at_exit: bool = True,
    ) -> None:
        if not initialize_head and (connect or head_node_args):
            raise ValueError("connect and head_node_args need initialize_head=True: there is no head otherwise")
        self.head_node: ClusterNode | None = None
        self.worker_nodes: set[ClusterNode] = set()
        self.connected = False
        self._pumped: SessionThread | None = None
        self._nursery: Nursery | None = None
        self._atexit = shutdown_at_exit
        if shutdown_at_exit:
            atexit.register(self.shutdown)
        if initialize_head:
            self.add_node(**dict(head_node_args or {}))
            if connect:
                self.connect()

    @property
    def address(self) -> str:
        """What `hpc.init(address=...)` takes: the session's id. RuntimeError before the first node."""
        return self._need().session.id

    gcs_address = address

    def _need(self) -> SessionThread:
        if self._pumped is None:
            raise RuntimeError("this cluster has no nodes: add_node() starts the first, with the head")
        return self._pumped

    # -------------------------------------------------------------- nodes

    def add_node(self, wait: bool = True, **node_args: Any) -> ClusterNode:
        """Start a node; the first one has the head, too.

        node_args: num_cpus (1), num_gpus (0), memory, object_store_memory (150 MiB), resources, labels.
        wait: return when it accepts work. Raises SessionStartError when it does not come up, and TypeError for
        arguments that no node has and values of another type. Raises ValueError for values out of their range.
        """
        wanted = _overrides(node_args)
        try:
            if self._pumped is None:
                return self._add_head(wanted)
            if not BEARERS:
                self._nursery = keep_nursery(PRELOADED)  # as dear as a node, and all further ones cheap
            with self._pumped.hold() as session:
                if session.state != "ready":
                    raise SessionStartError(f"the session has ended: {session.lost or 'it was shut down'}")
                (number,) = session.add_group(LocalGroup(1), overrides=wanted)
                info = session.nodes[number]
        except OSError as error:
            raise SessionStartError(f"the node cannot be started: {error}") from None
        node = ClusterNode(self, info, is_head=False)
        self.worker_nodes.add(node)
        if wait:
            self._wait_node(node)
        return node

    def _add_head(self, wanted: dict[str, Any]) -> ClusterNode:
        session = Session(LocalGroup(1), overrides=wanted, preload=PRELOADED, start_timeout_s=START_TIMEOUT_S)
        try:
            session.wait_ready()
        except SessionError as error:
            raise SessionStartError(str(error)) from None
        except BaseException:
            session.stop(1.0, "the start was interrupted")
            raise
        assert session.head is not None
        self._pumped = SessionThread(session)
        self.head_node = ClusterNode(self, session.head, is_head=True)
        return self.head_node

    def _wait_node(self, node: ClusterNode) -> None:
        info = node._info
        self._need().wait_until(lambda s: info.state in ("ready", "gone") or s.state == "ended", START_TIMEOUT_S)
        if info.state != "ready":
            self.worker_nodes.discard(node)
            with self._need().hold() as session:
                session.kill_node(info.node)
            raise SessionStartError(str(SessionError("the node did not come up", [info])))

    def remove_node(self, node: ClusterNode, allow_graceful: bool = True) -> None:
        """End a node and wait until nothing of it is left.

        allow_graceful: False kills its processes with SIGKILL, as a crash would. Its number is not used again. The end
        of the head's node is the end of the session.
        """
        pumped = self._need()
        if node is self.head_node and allow_graceful:
            self.shutdown()
            return
        if node is not self.head_node and node not in self.worker_nodes:
            raise ValueError(f"{node!r} is not a node of this cluster, or was removed before")
        with pumped.hold() as session:
            if allow_graceful:
                session.remove_node(node.number, REMOVE_GRACE_S)
            else:
                session.kill_node(node.number)
        deadline = time.monotonic() + REMOVE_TIMEOUT_S
        pumped.wait_until(lambda s: node._info.state == "gone", REMOVE_TIMEOUT_S)
        while True:  # its last words are said; its process ends a moment later
            with pumped.hold():
                if node._info.group.poll() is not None:
                    break
            if time.monotonic() > deadline:
                raise RuntimeError(f"{node!r} did not end within {REMOVE_TIMEOUT_S:g} s")
            time.sleep(POLL_S / 4)
        if node is self.head_node:
            self.shutdown()
        self.worker_nodes.discard(node)

    def list_all_nodes(self) -> list[ClusterNode]:
        """The nodes that were added and not removed, the head's first."""
        head = [self.head_node] if self.head_node is not None else []
        return head + sorted(self.worker_nodes, key=lambda node: node.number)

    def wait_for_nodes(self, timeout: float = 30) -> None:
        """Wait until the head knows as living nodes exactly those of `list_all_nodes`; TimeoutError after `timeout`
        seconds."""
        from hpc.host.ask import node_rows

        if self.head_node is None:
            raise RuntimeError("this cluster has no nodes: add_node() starts the first, with the head")
        wanted = {node.number for node in self.list_all_nodes()}
        deadline = time.monotonic() + timeout
        while True:
            rows = node_rows(self.head_node.node_dir)
            there = {int(row["node"]) for row in rows if row["alive"] and not row["gateway"]}
            if there == wanted:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"after {timeout:g} s the head knows the nodes {sorted(there)}, not {sorted(wanted)}; missing: "
                    + "; ".join(n._info.problem() for n in self.list_all_nodes() if n.number not in there)
                )
            time.sleep(POLL_S)

    # -------------------------------------------------------------- this process

    def connect(self, namespace: str | None = None) -> Any:
        """`hpc.init` this process to the cluster; returns its context."""
        import hpc

        context = hpc.init(address=self.address, namespace=namespace, ignore_reinit_error=True)
        self.connected = True
        return context

    def shutdown(self) -> None:
        """End all nodes. A driver of this process that is connected to them leaves first."""
        if self._atexit:
            atexit.unregister(self.shutdown)
        pumped, self._pumped = self._pumped, None
        if self._nursery is not None and self._nursery in BEARERS:
            end_nursery()
        if pumped is None:
            return
        import hpc
        from hpc.core.process.current import need_client

        if hpc.is_initialized() and need_client().registered.session == pumped.session.id:
            hpc.shutdown()
        self.connected = False
        self.head_node = None
        self.worker_nodes.clear()
        pumped.stop(REMOVE_GRACE_S, "the cluster was shut down")


def _overrides(node_args: Mapping[str, Any]) -> dict[str, Any]:
    """The node's part of a start message, with Ray's defaults for such clusters."""
    given = {name: value for name, value in node_args.items() if name not in _MEANINGLESS and value is not None}
    return overrides({"num_cpus": 1, "num_gpus": 0, "object_store_memory": DEFAULT_STORE_BYTES, **given})

"""What a node is: the launcher's start message, checked, and the NodeSpec that its processes are given.

`Start` is what one group of nodes has in common, read from the launcher's line. `NodeSpec` is one node, with what was
found on it. Both are plain data. A NodeSpec is never sent anywhere: the children of a supervisor are forked and have it
in memory.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from hpc.core.accelerators.base import Device
from hpc.core.node.settings import check, setting, switch
from hpc.core.node.times import fault_times

#: Part of the node's memory that objects may take, where the user said nothing.
STORE_SHARE = 0.3
MIN_STORE_BYTES = 64 << 20


class Overrides(msgspec.Struct, kw_only=True):
    """What the user said about the resources of each node of a group; None is "as found"."""

    num_cpus: float | None = None
    num_gpus: float | None = None
    memory_bytes: int | None = None
    object_store_bytes: int | None = None
    resources: dict[str, float] = {}
    labels: dict[str, str] = {}


class Strip(msgspec.Struct, kw_only=True):
    """Variables of schedulers that nothing on the node inherits, by their beginning or name; but for those kept."""

    prefixes: list[str] = []
    names: list[str] = []
    kept: list[str] = []


class Granted(msgspec.Struct, kw_only=True):
    """What the scheduler itself says that each of the next `nodes` ranks was granted; None: it does not count that."""

    nodes: int = 1
    cpus: int | None = None
    mem_mb: int | None = None
    gpus: int | None = None
    #: which GPUs, where nothing on the node says so; empty: not known
    devices: list[str] = []


class Start(msgspec.Struct, kw_only=True):
    """The start message (field by field as in the bootstrap protocol)."""

    session: str
    mode: Literal["cluster", "ranks"] = "cluster"
    first_node: int = 1
    world: int = 1
    head_rank: int | None = None
    interface: str | None = None
    base_dir: str | None = None
    overrides: Overrides = msgspec.field(default_factory=Overrides)
    grant_env: dict[str, list[str]] = {}
    grants: list[Granted] = []
    strip: Strip = msgspec.field(default_factory=Strip)
    #: the job that the session runs in, "scheduler" and "job_id"; empty outside any
    allocation: dict[str, str] = {}
    config: dict[str, Any] = {}
    #: modules that workers find imported, beside the runtime's own
    preload: list[str] = []
    driver_host: bool = False
    gateway: bool = False
    time_left_s: float | None = None
    #: a program that some nodes become when the launcher is gone without a word: it sees to the end of the job
    when_abandoned: list[str] = []

    @property
    def loopback(self) -> bool:
        """Whether all supervisors of the session are on one machine."""
        return switch("loopback", self.config)

    @property
    def machine_share(self) -> int:
        """How many nodes of this group divide this machine among themselves."""
        return int(setting("machine_share", self.config))

    def granted(self, rank: int) -> Granted:
        """What the scheduler says that a rank was granted."""
        for grant in self.grants:
            if rank < grant.nodes:
                return grant
            rank -= grant.nodes
        return Granted()


def parse_start(message: Mapping[str, Any]) -> Start:
    """Check a start message; ValueError says which field is wrong."""
    start = msgspec.convert(message, Start)
    if not (start.session.isalnum() and start.session.isascii() and len(start.session) <= 32):
        raise ValueError(f"not a session's name: {start.session!r}")
    if start.world < 1 or start.first_node < 0:
        raise ValueError(f"no such nodes: {start.world} from number {start.first_node}")
    check(start.config, {})
    fault_times(start.config)
    return start


class NodeSpec(msgspec.Struct, kw_only=True):
    """One node, as its supervisor found it.

    `cpus` and `devices` are what the node offers (the user's override, else the grant); `granted_cpus` is what it may
    really use, for thread counts.
    """

    session: str
    node: int
    rank: int
    world: int
    dir: str
    interface: str
    interface_addr: str
    cpus: float
    granted_cpus: int
    mem_bytes: int
    devices: tuple[Device, ...] = ()
    #: resources and labels that the node has because of its devices: what it is in a TPU's slice
    device_resources: dict[str, float] = msgspec.field(default_factory=dict)
    device_labels: dict[str, str] = msgspec.field(default_factory=dict)
    overrides: Overrides = msgspec.field(default_factory=Overrides)
    config: dict[str, Any] = msgspec.field(default_factory=dict)
    preload: tuple[str, ...] = ()
    mode: Literal["cluster", "ranks"] = "cluster"
    head_rank: int | None = None
    driver_host: bool = False
    gateway: bool = False
    #: the job that the session runs in, "scheduler" and "job_id"; empty outside any
    allocation: dict[str, str] = msgspec.field(default_factory=dict)
    #: the switches above this node, from the top down, where the scheduler says so
    switches: tuple[str, ...] = ()
    time_left_s: float | None = None
    #: time.monotonic() when `time_left_s` was true
    started_at: float = msgspec.field(default_factory=time.monotonic)
    #: this process's end of the socket between raylet and zygote
    zygote_fd: int = -1
    #: the head's listening socket, which outlives it
    head_fd: int = -1
    #: (public, secret) of the head before, for one that takes its place
    head_keys: tuple[str, str] | None = None

    def __repr__(self) -> str:
        return f"NodeSpec(session={self.session!r}, node={self.node})"  # without the keys

    @property
    def store_bytes(self) -> int:
        """Bytes of the object store, in whole pages."""
        wanted = self.overrides.object_store_bytes or int(self.mem_bytes * STORE_SHARE)
        return max(MIN_STORE_BYTES, wanted) // mmap.PAGESIZE * mmap.PAGESIZE

    @property
    def has_head(self) -> bool:
        """Whether the head runs on this node."""
        return self.head_rank is not None and self.head_rank == self.rank

    @property
    def log_dir(self) -> str:
        """Where raylet.log, head.log, zygote.log and worker-<proc>.out/.err are."""
        return os.path.join(self.dir, "logs")

    def log_path(self, name: str) -> str:
        """The log file `name` of this node."""
        return os.path.join(self.log_dir, name)

    @property
    def raylet_sock(self) -> str:
        """The listening socket of the raylet."""
        return os.path.join(self.dir, "raylet.sock")

    def worker_sock(self, proc: int) -> str:
        """The listening socket of the worker `proc`."""
        return os.path.join(self.dir, f"w{proc}.sock")

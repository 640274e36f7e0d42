"""Sessions for tests: one node by hpc.init, or several local nodes with this process as the driver; their processes."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import hpc
from hpc.core.process.current import need_client
from hpc.launchers.local.group import LocalGroup
from hpc.launchers.session import Session
from hpc.util.scheduling_strategies import NodeAffinitySchedulingStrategy


@contextmanager
def one_node(env: dict[str, str] | None = None, **options: Any) -> Iterator[None]:
    """A session of one node that ends with the block; ``env`` is set while it starts."""
    options.setdefault("num_cpus", 2)
    options.setdefault("object_store_memory", 128 << 20)
    before = {name: os.environ.get(name) for name in env or {}}
    os.environ.update(env or {})
    try:
        hpc.init(address="local", **options)
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    try:
        yield
    finally:
        hpc.shutdown()


def store_stats(node: int = 1) -> dict[str, int]:
    """What a node's raylet says of its object store."""
    from hpc.core.ids import raylet_of
    from hpc.core.process.current import current
    from hpc.state.gather import ask

    current.client.flush()
    (stats,) = ask([raylet_of(node)], "store_totals").rows
    return stats


@contextmanager
def local_nodes(count: int, *, config: dict[str, Any] | None = None, **overrides: Any) -> Iterator[Session]:
    """A session of several local nodes; the driver is on node 1."""
    overrides.setdefault("num_cpus", 1)
    overrides.setdefault("object_store_bytes", 64 << 20)
    session = Session(LocalGroup(count), overrides=overrides, config={"loopback": True, **(config or {})})
    session.start()
    try:
        session.wait_ready(30.0)
        hpc.init(address=session.local_dir())
        yield session
    finally:
        hpc.shutdown()
        session.stop(2.0)


def on(node: int | str) -> NodeAffinitySchedulingStrategy:
    """On this node and on no other."""
    return NodeAffinitySchedulingStrategy(str(node), soft=False)


def soft(node: int | str) -> NodeAffinitySchedulingStrategy:
    """On this node; once it is dead, on another one."""
    return NodeAffinitySchedulingStrategy(str(node), soft=True)


def settle() -> None:
    """Wait until nothing is left of what a test had in a session that it shares with others: tasks, values, items."""
    machine = need_client().machine
    gc.collect()

    def empty() -> bool:
        need_client().flush()
        return not machine.state.streams and not machine.state.tasks and not machine.state.entries

    eventually(empty)


def pid_of(session_dir: str, what: str) -> int:
    """The process id of a node's "raylet", "head" or "zygote", found by its name below the node's supervisor."""
    supervisor = int(hpc_json(session_dir)["pid"])
    for pid in children(supervisor):
        with suppress(OSError):  # one that has just ended
            if Path(f"/proc/{pid}/comm").read_text().strip() == f"hpc-{what}":
                return pid
    raise LookupError(f"no {what} below process {supervisor}")


def hpc_json(session_dir: str) -> dict[str, Any]:
    """session.json of a node directory."""
    import json

    data: dict[str, Any] = json.loads(Path(session_dir, "session.json").read_text())
    return data


def children(pid: int) -> list[int]:
    """The processes whose parent is ``pid``."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid:
                found.append(int(entry.name))
    return found


def kill9(pid: int) -> None:
    """SIGKILL."""
    os.kill(pid, signal.SIGKILL)


def rss_bytes(pid: int) -> int:
    """The memory of a process that is resident, as the kernel counts it."""
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


class Heads:
    """The head of a session: its process, and a way to kill it."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.dir = session.local_dir()

    def pid(self) -> int:
        """The process that is the head now; 0 between two of them."""
        try:
            return pid_of(self.dir, "head")
        except (LookupError, OSError):
            return 0

    def kill(self, wait: bool = True, how: int = signal.SIGKILL) -> None:
        """End it by a signal; returns when another one is there, or at once."""
        old = eventually(self.pid)  # never 0: that would be everybody's
        os.kill(old, how)
        if wait:
            eventually(lambda: self.pid() not in (0, old))


def eventually(check: Callable[[], Any], timeout_s: float = 60.0) -> Any:
    """What ``check`` gives once it is true; fails after the timeout. For states that nothing announces."""
    import time

    deadline = time.monotonic() + timeout_s
    while True:
        value = check()
        if value or time.monotonic() > deadline:
            assert value, f"not within {timeout_s} s"
            return value
        time.sleep(0.01)


@hpc.remote
def where_once(gate: Path) -> str:
    """A task that ends when its gate is there, and says where it ran."""
    eventually(gate.exists, 60.0)
    return str(hpc.get_runtime_context().get_node_id())

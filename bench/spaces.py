"""A session whose nodes each live in a network namespace of this machine: real raylets, real links, real encryption.

The supervisors are forked from one process that has done the imports, and each moves into its namespace before it
starts; so 64 nodes cost seconds. Needs root and the test bed of tests/schedulers.
Rejected: `hpc start` on each (an interpreter and its imports, 64 times over on two cores).
"""

from __future__ import annotations

import ctypes
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BEDS = ROOT / "tests" / "schedulers"
CLONE_NEWNET, CLONE_NEWUTS = 0x40000000, 0x04000000


def netbed() -> Any:
    """The module that makes namespaces."""
    if str(BEDS) not in sys.path:
        sys.path.insert(0, str(BEDS))
    import netbed as module

    return module


def why_not() -> str:
    """Why there can be no namespaces here; empty if there can."""
    try:
        return netbed().missing([]) or ""
    except ImportError as error:
        return f"no test bed: {error}"


def enter(path: str, host: str) -> None:
    """Move this process into a network namespace, and give it a host name of its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(path, os.O_RDONLY)
    if libc.setns(fd, CLONE_NEWNET) or libc.unshare(CLONE_NEWUTS):
        raise OSError(ctypes.get_errno(), f"cannot enter {path}")
    os.close(fd)
    socket.sethostname(host)


@contextmanager
def session(bed: Any, **options: Any) -> Iterator[Any]:
    """A session with a node in each namespace of a bed; ready when given."""
    from hpc.core.node.supervisor import supervisor_main
    from hpc.launchers.local.group import LocalGroup
    from hpc.launchers.session import Session

    launcher = os.getpid()

    def supervisor(rank: int, stdin_fd: int, stdout_fd: int) -> int:
        name = bed.names[rank]
        enter(f"/run/netns/{bed._space(name)}", name)
        return supervisor_main(rank, stdin_fd, stdout_fd, launcher_pid=launcher)

    group = LocalGroup(len(bed.names), fork=True, supervisor=supervisor)
    config = {"loopback": False, **options.pop("config", {})}
    made = Session(group, overrides=options, config=config)
    made.start()
    try:
        made.wait_ready(120.0)
        yield made
    finally:
        made.stop(2.0)


def directory(made: Any) -> str:
    """Where a driver finds the first node. Its host name is another, so the session itself would not call it local."""
    return str(made.head.hello["dir"])

"""The launcher's half of a nursery: for a process that starts many nodes on its machine, as test suites do.

A node that is executed costs an interpreter's start and all imports: 0.29 s of CPU time, with the head and two workers.
One that a nursery forks costs 0.09 s. The nursery itself costs what a node costs, once, and lives until it is closed.
So `hpc.init()` makes none, since most programs begin one session.

A node must not notice where it comes from. What an executed node would inherit is either sent with the order, or
compared with what the nursery has inherited (`heritage`). Where that differs, the node is executed. It does so after a
change of the user, the control group, the CPUs allowed, a namespace, ignored signals or variables of the interpreter.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence

from hpc.core.node.nursery import MAX_ORDER_BYTES, can_bear
from hpc.core.node.reading import text_of
from hpc.launchers.local.group import BEARERS

#: As the node program: see `launchers/node_group.py`.
PROGRAM = (
    "import gc, sys; gc.disable(); sys.path[:]=[p for p in sys.path if p]; "
    "from hpc.core.node.nursery import main; main()"
)
#: What the interpreter, the loader and numpy read as they start.
READ_AT_START = ("PYTHON", "LD_", "GLIBC_", "MALLOC_", "NPY_", "NUMPY_")
#: Lines of the kernel's status of a process that an executed program inherits.
STATUS = (
    "Umask", "Uid", "Gid", "Groups", "SigBlk", "SigIgn", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs",
    "Seccomp", "Cpus_allowed_list", "Mems_allowed_list",
)  # fmt: skip
NAMESPACES = ("mnt", "net", "ipc", "uts", "user", "cgroup", "pid_for_children")
LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_") and name != "RLIMIT_NOFILE"]
ANSWER_S = 20.0


def heritage() -> tuple[object, ...]:
    """What a program that is executed now would inherit, apart from what an order carries."""
    with open("/proc/thread-self/status", encoding="utf-8", errors="replace") as file:
        status = tuple(line for line in file if line.partition(":")[0] in STATUS)
    return (
        status,
        tuple(sorted((k, v) for k, v in os.environ.items() if k.startswith(READ_AT_START))),
        tuple(resource.getrlimit(limit) for limit in LIMITS),
        tuple(_link(f"/proc/thread-self/ns/{name}") for name in NAMESPACES),
        _link("/proc/self/root"),
        *(text_of(f"/proc/self/{name}") for name in ("cgroup", "oom_score_adj")),
        os.getsid(0),
        os.getpriority(os.PRIO_PROCESS, 0),
        tuple(sys.path),
        sys.executable,
    )


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


class Nursery:
    """One nursery of this process. `modules` are what the sessions that it is for name to be imported."""

    def __init__(self, modules: Sequence[str] = ()) -> None:
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._heritage = heritage()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(ANSWER_S)
        self._sock = ours
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(self._owner), *modules],
                stdin=theirs.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
            )  # fmt: skip

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def bear(self, words: Sequence[str], stdin_fd: int, stdout_fd: int, apart: bool) -> int | None:
        """The pid of a new node with these words of the node program; None where it must be executed."""
        if os.getpid() != self._owner or heritage() != self._heritage:
            return None
        order = {
            "words": list(words),
            "apart": apart,
            "env": dict(os.environ),
            "open_files": resource.getrlimit(resource.RLIMIT_NOFILE),
        }
        data = json.dumps(order).encode()
        if len(data) > MAX_ORDER_BYTES:
            return None
        with self._lock:
            directory = os.open(".", os.O_PATH | os.O_DIRECTORY)
            try:
                socket.send_fds(self._sock, [data], [stdin_fd, stdout_fd, directory])
                answer = self._sock.recv(64)
            except OSError:
                answer = b""
            except BaseException:  # an answer that comes later would be taken for that to the next order
                self._end()
                raise
            finally:
                os.close(directory)
            if not answer:  # it was killed, or hangs; a node that it forked without an answer ends with its pipes
                self._end()
                return None
        pid = int(answer)
        return pid if pid > 0 else None

    def _end(self) -> None:
        self._process.kill()
        self.close()

    def close(self) -> None:
        """End it. The nodes that it has forked stay."""
        if os.getpid() == self._owner:
            self._sock.close()
            self._process.wait()


def keep_nursery(modules: Sequence[str] = ()) -> Nursery | None:
    """Have local nodes of this process forked by a nursery from now on; None on a machine where this cannot be."""
    if not can_bear():
        return None
    nursery = Nursery(modules)
    BEARERS[:] = [nursery]
    return nursery


def end_nursery() -> None:
    """End the one that is kept, if there is one; further nodes are executed."""
    while BEARERS:
        BEARERS.pop().close()

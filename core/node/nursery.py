"""A process that has imported what nodes need, and forks nodes: each then costs a third of an interpreter's start.

The launcher's half is `launchers/local/nursery.py`, which says when a nursery may be used. A node is made by the clone
call with CLONE_PARENT: it is the launcher's child, as one that is executed. So the launcher waits for it, and nothing
depends on the nursery once a node is there. All else that a node inherits from its launcher comes with the order: its
pipes, its directory, the variables and the limit of open files.

An order is one packet of JSON with three descriptors (stdin, stdout, directory); the answer is the pid. The nursery has
one thread and ends with the launcher, or with its end of the socket.

Rejected: a fork, with the nursery as the parent of all nodes. It would have to tell the launcher of each end, and a
launcher that outlives it would have none to wait for.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from hpc.core.node import supervisor, zygote
from hpc.core.node.imports import import_threadless, uncollected
from hpc.core.node.process import close_all_but, open_pidfd, set_name, signals_blocked
from hpc.core.node.programs import CHILDREN

CLONE_PARENT = 0x8000
#: The number of the clone call, where its first argument is the flags and its second one the stack.
NR_CLONE = {"x86_64": 56, "aarch64": 220}
MAX_ORDER_BYTES = 1 << 17
DESCRIPTORS = 3


def can_bear() -> bool:
    """Whether this machine's processor is one whose clone call is known."""
    return os.uname().machine in NR_CLONE


def fork_sibling(body: Callable[[], object]) -> int:
    """Fork a child of this process's parent that runs `body` and exits; returns its pid. For a single thread.

    Python's own fork cannot pass a flag, so what it does before and after the call is done here.
    """
    python = ctypes.pythonapi
    syscall = ctypes.PyDLL(None).syscall  # with the interpreter's lock held, as in os.fork
    syscall.restype = ctypes.c_long
    number = NR_CLONE[os.uname().machine]
    with signals_blocked():
        python.PyOS_BeforeFork()
        pid: int = syscall(number, CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0)
        if pid:
            python.PyOS_AfterFork_Parent()
            return pid
        python.PyOS_AfterFork_Child()
    try:
        body()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def become_node(order: dict[str, Any], descriptors: Sequence[int]) -> None:
    """In the child: take over what an executed node would have inherited, and run the node program."""
    stdin, stdout, directory = descriptors
    if order["apart"]:
        os.setsid()
    os.fchdir(directory)
    for fd, target in ((stdin, 0), (stdout, 1), (stdout, 2)):
        os.dup2(fd, target)
    close_all_but(())
    soft, hard = order["open_files"]
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    os.environ.clear()
    os.environ.update(order["env"])
    supervisor.main(order["words"])


def preload(modules: Sequence[str]) -> None:
    """Import what the processes of nodes need, and what a session names beside."""
    CHILDREN.preload(head=True)
    with uncollected():
        import_threadless((*zygote.PRELOAD, *zygote.LATER, *modules))


def serve(sock: socket.socket, launcher_pid: int) -> None:
    """Bear nodes until the launcher is gone, or has closed its end."""
    launcher = open_pidfd(launcher_pid)
    poll = select.poll()
    for fd in (sock.fileno(), launcher):
        if fd is not None:
            poll.register(fd, select.POLLIN)
    while all(fd != launcher for fd, _event in poll.poll()):
        data, descriptors, _flags, _sender = socket.recv_fds(sock, MAX_ORDER_BYTES, DESCRIPTORS)
        if not data:
            return
        order = json.loads(data)
        pid = fork_sibling(lambda: become_node(order, descriptors))  # noqa: B023  it runs before the next order comes
        for fd in descriptors:
            os.close(fd)
        sock.send(str(pid).encode())


def main() -> NoReturn:
    """The pid of the launcher, then modules to import; the socket is stdin."""
    launcher_pid, *modules = sys.argv[1:]
    os.setpgid(0, 0)  # Ctrl-C is for the launcher
    set_name("hpc-nursery")
    sock = socket.socket(fileno=os.dup(0))
    try:
        preload(modules)
        if zygote.why_not_fork() is not None:  # a zygote from here would not see it, and its workers might hang
            os._exit(1)
        serve(sock, int(launcher_pid))
    except (OSError, ProcessLookupError):  # the launcher has gone meanwhile
        os._exit(1)
    os._exit(0)

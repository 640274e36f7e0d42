"""The outer process of a node: it outlives the supervisor by the time it takes to clear up after it.

The supervisor may be killed with SIGKILL like anything else. Its own children then get SIGKILL from the kernel, but
what those had started would drift to init, and the node's directory would stay. So the supervisor runs as the only
child of a keeper, which does nothing but wait. The keeper is a subreaper: after the supervisor's death all that is left
below becomes its own. It ends that, removes the directory and tells the launcher. Its stdout stays open until then, so
the end of that stream means that the node is clean. The other way round, the supervisor gets SIGTERM when its keeper
dies, and stops in order.

When all is clear a keeper may become another program, which its supervisor named. That one sees to the end of the job
when the launcher is gone without a word.

Only if both are killed at once, with SIGKILL, can a directory stay behind, and never a process of ours. `rundir.sweep`
takes the directory away at the next start.

Rejected: a janitor beside the supervisor that looks for a mark in environments, since forked processes carry their
parent's. Rejected too: leaving it to the scheduler, since many sites run without job containers.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from types import FrameType

from hpc.core.node import left_names, rundir
from hpc.core.node.bootstrap import encode_report
from hpc.core.node.process import become_subreaper, fork_child, set_name
from hpc.core.node.reap import describe_code, end_descendants

CLEAR_TIMEOUT_S = 20.0
LAST_REPORT = 10**9  # numbers of messages of a keeper, far above those of its supervisor
BECOME = b"become "
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def keep(body: Callable[[int], int], *, rank: int, stdin_fd: int, stdout_fd: int, owned: str = "") -> int:
    """Run `body` in a child, end what it leaves behind and return an exit code (128+N for a signal).

    `body` is given the descriptor of a pipe. It writes there the paths, one a line, that must not outlive it, and maybe
    what this process is to `become`. The process that calls this is for nothing else; it must have one thread. A folder
    `owned` is such a path from the beginning, and the child holds its lock.
    """
    become_subreaper()
    set_name("hpc-keeper")
    for warning in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(warning, signal.SIG_IGN)  # a scheduler's warning goes to every task of a step
    paths_fd, write_fd = os.pipe()
    child = 0  # -1 once it has ended
    early: list[int] = []

    def forward(signum: int, _frame: FrameType | None) -> None:
        if child > 0:
            os.kill(child, signum)
        else:
            early.append(signum)

    for signum in FORWARDED:
        signal.signal(signum, forward)
    child = fork_child(
        lambda: _owning(owned, write_fd, body),
        name="hpc-node",
        keep=(stdin_fd, stdout_fd, write_fd),
        death_signal=signal.SIGTERM,
    )
    for early_signal in early:
        os.kill(child, early_signal)
    os.close(write_fd)
    _drop_input(stdin_fd)
    code = _wait(child)
    child = -1
    left = end_descendants(CLEAR_TIMEOUT_S)
    left_names.sweep_at_end()
    lines = _read_lines(paths_fd)
    for line in lines:
        if line.startswith(b"/"):
            rundir.remove(os.fsdecode(line))
    if code < 0:
        _tell(rank, stdout_fd, code, left)
        return 128 - code
    for line in lines:
        if line.startswith(BECOME):
            _turn_into([os.fsdecode(word) for word in line.removeprefix(BECOME).split(b"\0")])
    return code


def _owning(folder: str, write_fd: int, body: Callable[[int], int]) -> int:
    if folder:
        rundir.own(folder)
        os.write(write_fd, os.fsencode(folder) + b"\n")
    return body(write_fd)


def become(argv: Sequence[str]) -> bytes:
    """A line for the pipe: the program that the keeper is to be, at last."""
    return BECOME + b"\0".join(os.fsencode(word) for word in argv) + b"\n"


def _turn_into(argv: list[str]) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)  # nobody reads any more, and the end of our stream says that the node is clean
    for signum in FORWARDED:
        signal.signal(signum, signal.SIG_DFL)
    with contextlib.suppress(OSError):
        os.execvp(argv[0], argv)


def _drop_input(stdin_fd: int) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, stdin_fd)
    os.close(null)


def _wait(child: int) -> int:
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child:
            return os.waitstatus_to_exitcode(status)


def _read_lines(fd: int) -> list[bytes]:
    data = b""
    os.set_blocking(fd, False)
    try:
        while block := os.read(fd, 1 << 16):
            data += block
    except BlockingIOError:
        pass
    os.close(fd)
    return data.split(b"\n")


def _tell(rank: int, stdout_fd: int, code: int, left: list[int]) -> None:
    why = f"the supervisor {describe_code(code)}"
    if left:
        why += f"; processes that could not be ended: {left}"
    message = {"op": "bye", "rank": rank, "code": 128 - code, "why": why}
    try:
        os.set_blocking(stdout_fd, False)
        os.write(stdout_fd, b"\n" + encode_report(rank, LAST_REPORT, message))
    except OSError:
        return

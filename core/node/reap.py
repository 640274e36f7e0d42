"""Killing all that is below a process, and waiting until nothing of it is left.

A supervisor is a subreaper: whoever below it loses its parent, by a double fork or a crash, becomes its
child. So "wait says that I have no children" proves that nothing is left, whatever was forked meanwhile, and
`end_descendants` kills and waits until that is so. The list of whom to kill comes from /proc; it only has to
be good enough for progress.

Rejected: process groups and sessions (setsid leaves them), and cgroups (rarely writable in a job). Rejected too: an
environment variable as a mark, since a forked process shows its parent's first environment.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterable

from hpc.core.node.process import open_pidfd

POLL_S = 0.05


def children_of(pid: int) -> list[int]:
    """The children of all threads of `pid`, from /proc."""
    found = _listed_children(pid)
    return _children_by_parent().get(pid, []) if found is None else found


def _listed_children(pid: int) -> list[int] | None:
    """The same as the kernel lists them; None for one without such lists (CONFIG_PROC_CHILDREN)."""
    found: list[int] = []
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
        for task in tasks:
            with open(f"/proc/{pid}/task/{task}/children", "rb") as file:
                found += [int(word) for word in file.read().split()]
    except FileNotFoundError:
        if os.path.exists(f"/proc/{pid}/task/{pid}/stat"):
            return None
    except OSError:
        pass
    return found


def _children_by_parent() -> dict[int, list[int]]:
    """The children of all processes: a look at each process of the machine."""
    found: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        parent = parent_of(int(name)) if name.isdigit() else None
        if parent is not None:
            found.setdefault(parent, []).append(int(name))
    return found


def parent_of(pid: int) -> int | None:
    """The parent of a process, None if there is no such process."""
    fields = stat_fields(pid)
    return int(fields[1]) if fields else None


def is_running(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    fields = stat_fields(pid)
    return fields is not None and fields[0] not in (b"Z", b"X")


def stat_fields(pid: int) -> list[bytes] | None:
    """The fields of /proc/PID/stat after the name: state, parent, group, session, ...; None without such a process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return None


def descendants(root: int, spare: Iterable[int] = ()) -> list[int]:
    """All processes below `root`, parents before children; those in `spare` and below are left out."""
    spared = set(spare)
    found: list[int] = []
    todo = [root]
    by_parent: dict[int, list[int]] | None = None  # all are looked at once, not once for each that is found
    while todo:
        pid = todo.pop()
        children = _listed_children(pid) if by_parent is None else by_parent.get(pid, [])
        if children is None:
            by_parent = _children_by_parent()
            children = by_parent.get(pid, [])
        for child in children:
            if child not in spared:
                spared.add(child)
                found.append(child)
                todo.append(child)
    return found


def signal_all(pids: Iterable[int], signum: int) -> None:
    """Send a signal to each process that is still there and may be signalled."""
    for pid in pids:
        try:
            os.kill(pid, signum)
        except OSError:
            continue


def reap_ended() -> tuple[list[tuple[int, int]], bool]:
    """Wait for all children that have ended: their (pid, wait status), and whether children are left."""
    ended: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended, False
        if pid == 0:
            return ended, True
        ended.append((pid, status))


def end_descendants(timeout_s: float) -> list[int]:
    """Kill everything below this process and wait for it; return who is left at the timeout.

    For a subreaper the empty list is a proof. What cannot be ended: processes in an uninterruptible call,
    and those of another user.
    """
    deadline = time.monotonic() + timeout_s
    me = os.getpid()
    while True:
        _, left = reap_ended()
        if not left:
            return []
        pids = descendants(me)
        signal_all(pids, signal.SIGKILL)
        if time.monotonic() > deadline:
            return [pid for pid in pids if is_running(pid)]
        _wait_for_one(children_of(me), POLL_S)


def _wait_for_one(pids: Iterable[int], timeout_s: float) -> None:
    """Return when one of the processes has ended, or after the timeout."""
    poll = select.poll()
    fds: list[int] = []
    try:
        for pid in pids:
            try:
                fd = open_pidfd(pid)
            except ProcessLookupError:
                continue
            if fd is not None:  # without one this is a short sleep
                fds.append(fd)
                poll.register(fd, select.POLLIN)
        poll.poll(timeout_s * 1000)
    finally:
        for fd in fds:
            os.close(fd)


def exit_code(status: int) -> int:
    """A wait status as an exit code, -N for a signal."""
    return os.waitstatus_to_exitcode(status)


def describe_code(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"

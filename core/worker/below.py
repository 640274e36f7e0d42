"""Programs that the tasks of a worker have started, while the worker itself lives.

A worker that has seen accelerators is not used again, and lives on as long as somebody needs its objects. What it held
is free for others once it has said that nothing runs below it.

A worker is a subreaper, so daemons that its tasks have started become its children, and nobody waits for those. A child
that the user's code has made must be left to that code, which may want its exit status. The two are told apart by their
session (that of setsid). A process is born into its parent's session, and can only leave it for one of its own number.
So a child in a third session was born to another process, and was adopted. An adopted child that has never changed its
session (`program &` of a shell) cannot be told from the user's own. It is waited for when the worker ends.

Rejected: knowing the processes that Python itself forks (system() of C forks too, and waits).
"""

from __future__ import annotations

import os
import signal
import sys
import time

from hpc.core.node.orphans import END_S, GRACE_S, LOOK_S
from hpc.core.node.reap import children_of, descendants, is_running, signal_all, stat_fields

#: How often to look for adopted processes that have ended.
ADOPTED_S = 1.0


class Adopted:
    """The children of this process that were born to another one and have ended."""

    def __init__(self) -> None:
        self._sessions = {os.getsid(0)}  # a process changes its own once at most
        self._look_at = 0.0

    def look(self, now: float) -> None:
        """Wait for those that have ended; any other child is left as it is."""
        if now < self._look_at:
            return
        self._look_at = now + ADOPTED_S
        try:
            if os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return
        except ChildProcessError:
            return
        self._sessions.add(os.getsid(0))
        for pid in children_of(os.getpid()):
            fields = stat_fields(pid)
            if fields is not None and fields[0] == b"Z" and int(fields[3]) not in (pid, *self._sessions):
                _reap(pid)


def has_children() -> bool:
    """Whether this process has any child."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def end_programs() -> None:
    """End everything below this process, and wait for that as long as the kernel may need. Python's tracker of shared
    memory stays: it ends with the process, and removes what that leaves."""
    tracker = getattr(sys.modules.get("multiprocessing.resource_tracker"), "_resource_tracker", None)
    spared = [pid for pid in (getattr(tracker, "_pid", None),) if pid]
    begun = time.monotonic()
    termed: set[int] = set()
    while True:
        now, below = time.monotonic() - begun, descendants(os.getpid(), spared)
        for pid in below:
            _reap(pid)
        running = [pid for pid in below if is_running(pid)]
        if not running or now > END_S:
            return
        if now < GRACE_S:
            signal_all([pid for pid in running if pid not in termed], signal.SIGTERM)
            termed.update(running)
        else:
            signal_all(running, signal.SIGKILL)
        time.sleep(LOOK_S)


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:  # it is the child of another one below
        pass

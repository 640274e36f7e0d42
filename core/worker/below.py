"""Programs that the tasks of a worker have started, ended while the worker itself stays for what it owns.

A worker that has seen accelerators is not used again, and lives on as long as somebody needs its objects. What it held
is free for others once it has said that nothing runs below it.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from hpc.core.node.orphans import END_S, GRACE_S, LOOK_S
from hpc.core.node.reap import descendants, is_running, signal_all


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

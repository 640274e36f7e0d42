"""Whether a process beside us was sent the same signal: then whoever sent it has sent it to all, and we do not.

A scheduler that ends a job signals every process of it, Ctrl-C and `timeout` every process of a group; `kill` and its
like signal one. What was sent to all has reached the user's program already: a second SIGTERM would interrupt what
the program does upon the first. So a small process waits beside the program for what comes to it, and says so.
Rejected: the sender's pid, for a scheduler's daemon sends both kinds; looking for the signal in /proc/PID/status, where
it is pending for microseconds. Rejected too: the program where only we can reach it, for no place is out of reach of a
cgroup's end.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time

from hpc.core.node.process import fork_child

#: What it listens to.
HEARD = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
#: All processes are sent a signal within this time, also on a busy machine.
WAIT_S = 0.25
#: What came so long ago is not what came now.
FRESH_S = 0.5


class Witness:
    """The process. `own_group`: it is out of reach of what is sent to our process group, as the program is."""

    def __init__(self, *, own_group: bool = False) -> None:
        self._came: dict[int, float] = {}  # the last time of each signal
        self._read, write = os.pipe()
        os.set_blocking(self._read, False)
        self._pid = fork_child(lambda: _listen(write, own_group), name="hpc-witness", keep=(write,))
        os.close(write)
        select.select([self._read], [], [], WAIT_S)  # until it listens

    def heard(self, signum: int) -> bool:
        """Whether it was sent that signal, just now or within a moment."""
        until = time.monotonic() + WAIT_S
        while True:
            left_s = until - time.monotonic()
            if time.monotonic() - self._came.get(signum, float("-inf")) < FRESH_S:
                return True
            if self._read < 0 or left_s <= 0 or not select.select([self._read], [], [], left_s)[0]:
                return False
            data = os.read(self._read, 256)
            self._came |= dict.fromkeys(data, time.monotonic())
            if not data:  # somebody has killed it
                self.close()

    def note(self, signum: int) -> None:
        """The program was sent that signal by us."""
        self._came[signum] = time.monotonic()

    def close(self) -> None:
        """End it. What it has heard is still known."""
        if self._read < 0:
            return
        os.close(self._read)
        self._read = -1
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)


def _listen(fd: int, own_group: bool) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
    if own_group:
        os.setsid()
    os.write(fd, b"\0")  # from now on it hears
    while True:
        os.write(fd, bytes([signal.sigwait(HEARD)]))

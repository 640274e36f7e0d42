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
#: All processes are sent a signal within this time.
WAIT_S = 0.25
#: Sent to the witness by us. Signals of lower numbers that wait for it are taken first: its answer comes after theirs.
ASK = signal.SIGRTMAX
#: A busy machine may not run the witness at once: its answer is waited for so long.
ANSWER_S = 5.0
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
        select.select([self._read], [], [], ANSWER_S)  # until it listens

    def heard(self, signum: int) -> bool:
        """Whether it was sent that signal, just now or within a moment."""
        until, asked, answered = time.monotonic() + WAIT_S, False, False
        while True:
            now = time.monotonic()
            if now - self._came.get(signum, float("-inf")) < FRESH_S:
                return True
            if self._read < 0 or answered or (asked and now > until):
                return False
            if not select.select([self._read], [], [], max(0.0, until - now))[0]:
                if not asked:
                    os.kill(self._pid, ASK)
                    asked, until = True, now + ANSWER_S
                continue
            data = os.read(self._read, 256)
            self._came |= dict.fromkeys(data, time.monotonic())
            answered = asked and ASK in data
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
    waited_for = (*HEARD, ASK)
    signal.pthread_sigmask(signal.SIG_BLOCK, waited_for)
    if own_group:
        os.setsid()
    os.write(fd, b"\0")  # from now on it hears
    while True:
        os.write(fd, bytes([signal.sigwait(waited_for)]))

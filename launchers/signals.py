"""Signals as data: handlers only note them, and wake a select loop through a pipe.

Rejected: KeyboardInterrupt, which comes between any two instructions, also inside the clearing up. Rejected too:
signalfd, which is not in Python's library before 3.13 in any form. A blocked mask is inherited by every child.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections import deque
from types import FrameType, TracebackType
from typing import Any

WATCHED = (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD,
)  # fmt: skip


class Signals:
    """`with Signals() as signals:` - then watch `fileno()` and take what came by `take()`."""

    def __init__(self) -> None:
        self._came: deque[int] = deque()
        self._old: dict[int, Any] = {}
        self._old_wakeup = -1
        self._read = self._write = -1

    def __enter__(self) -> Signals:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._old_wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for signum in WATCHED:
            if signum == signal.SIGHUP and signal.getsignal(signum) == signal.SIG_IGN:
                continue  # nohup
            self._old[signum] = signal.signal(signum, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for signum, handler in self._old.items():
            signal.signal(signum, handler if handler is not None else signal.SIG_DFL)
        signal.set_wakeup_fd(self._old_wakeup)
        os.close(self._read)
        os.close(self._write)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self._came.append(signum)

    def fileno(self) -> int:
        return self._read

    def take(self) -> list[int]:
        """The signals since the last call, in their order (SIGCHLD too)."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self._read, 4096):
                pass
        came = []
        while self._came:
            came.append(self._came.popleft())
        return came


def terminal_sends_to_us() -> bool:
    """Whether Ctrl-C at our terminal reaches our whole process group, and so also the script."""
    try:
        fd = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(fd)

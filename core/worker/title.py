"""The name of a worker in ps and top: what it runs, as ``hpc::name``, or ``hpc::IDLE``.

Both names of a process are set. The short one has 15 bytes and belongs to its main thread. The long one stands in the
place of its arguments, as far as that place goes. Changing them costs about 2 µs, so a task only compares its name with
the last one. A worker that has run nothing for a while is called idle by its background thread, which has the time.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable

PREFIX = "hpc::"
IDLE = "IDLE"
#: A worker that began with nothing for so long is called idle.
IDLE_S = 0.003
#: Fields of /proc/PID/stat after the name: where the arguments begin and end.
_ARG_START, _ARG_END = 45, 46


def arguments_place() -> tuple[int, int]:
    """Where the arguments of this process lie in its memory: (address, size), (0, 0) where the kernel does not say."""
    try:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        begin, end = int(fields[_ARG_START]), int(fields[_ARG_END])
    except (OSError, ValueError, IndexError):
        return 0, 0
    return (begin, end - begin) if 0 < begin < end else (0, 0)


class Title:
    """The names of this process. ``now`` is what it is called, without the prefix."""

    def __init__(self) -> None:
        self.now = ""
        #: What it is called when it runs nothing: an actor has a name of its own.
        self.at_rest = IDLE
        self._lock = threading.Lock()
        self._at, self._size = arguments_place()
        self._comm = os.open(f"/proc/self/task/{os.getpid()}/comm", os.O_WRONLY | os.O_CLOEXEC)

    def show(self, name: str) -> None:
        """Call this process so."""
        with self._lock:
            self._set(name)

    def rest(self, running: Callable[[], str]) -> None:
        """Call this process idle if ``running`` says that it runs nothing; from any thread."""
        if self.now == self.at_rest or running():
            return
        with self._lock:
            self._set(self.at_rest)
            name = running()  # a task that began meanwhile may have seen its name still there
            if name:
                self._set(name)

    def _set(self, name: str) -> None:
        self.now = name
        data = (PREFIX + name).encode()
        try:
            os.write(self._comm, data[:15])
        except OSError:
            pass
        if self._size > 1:
            data = data[: self._size - 1]
            ctypes.memset(self._at, 0, self._size)
            ctypes.memmove(self._at, data, len(data))

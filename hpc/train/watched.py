"""A rank as it can be asked what it is at, also while its training function hangs."""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

import msgspec

from hpc import spi
from hpc.train.rank_output import files_of_output


class WatchedRank:
    """What a worker answers about the rank that it runs, on another thread than that one's."""

    _recorder: spi.Recorder | None = None

    def begin_watch(self, thread_name: str, barriers: str) -> None:
        """The thread of this name is the rank. ``barriers``: the file whose functions wait for other ranks."""
        idents = [one.ident for one in threading.enumerate() if one.name == thread_name]
        ident = (idents and idents[0]) or 0  # 0: it has ended already
        self._recorder = spi.Recorder(ident, lambda: _waits_in(ident, barriers))
        self._recorder.arm()
        self._recorder.start()

    def armed(self) -> tuple[tuple[int, int, int, int], tuple[str, str]]:
        """What `spi.look_at` needs, to take the stack from outside; and the files with the output of this process."""
        recorder = self._watching()
        return (os.getpid(), recorder.signum, recorder.fd, recorder.thread), files_of_output()

    def standing(self) -> dict[str, Any]:
        """In short: see `spi.Recorder.standing`."""
        return self._watching().standing()

    def groups(self) -> list[spi.GroupRow]:
        """What it is at in each of its groups."""
        return msgspec.convert(self._watching().rows(), list[spi.GroupRow])

    def stack(self) -> str:
        """Where its Python code is."""
        return self._watching().stack()

    def _watching(self) -> spi.Recorder:
        if self._recorder is None:
            raise RuntimeError("the training function has not started")
        return self._recorder


def _waits_in(thread: int, file: str) -> bool:
    """Whether a thread waits for an event in a function of this file."""
    frame = sys._current_frames().get(thread)
    if frame is None or frame.f_code.co_filename != threading.__file__:
        return False
    while frame is not None and frame.f_code.co_filename == threading.__file__:
        frame = frame.f_back
    return frame is not None and frame.f_code.co_filename == file

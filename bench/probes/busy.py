"""A load of known size: a process on each core that computes for a share of each 10 ms.

    python busy.py CORE SHARE        until standard input ends

The share is of CPU time that the process really had: where others take the core it goes on until it has had its part,
and so asks for the same from each of those that are measured beside it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator

PERIOD_S = 0.01


def burn(core: int, share: float) -> None:
    """Compute on one core for ``share`` of the time, until standard input ends."""
    os.sched_setaffinity(0, {core})
    os.set_blocking(0, False)
    begin = time.monotonic()
    while _goes_on():
        had = time.thread_time() + PERIOD_S * share
        while time.thread_time() < had:
            pass
        begin = max(begin + PERIOD_S, time.monotonic() - PERIOD_S)
        time.sleep(max(0.0, begin - time.monotonic()))


def _goes_on() -> bool:
    try:
        return os.read(0, 1) != b""
    except BlockingIOError:
        return True


@contextlib.contextmanager
def burning(share: float) -> Iterator[None]:
    """The load on all cores that this process may use, while the block runs."""
    command = [sys.executable, os.path.abspath(__file__)]
    loads = [
        subprocess.Popen([*command, str(core), str(share)], stdin=subprocess.PIPE) for core in os.sched_getaffinity(0)
    ]
    try:
        yield
    finally:
        for load in loads:
            assert load.stdin is not None
            load.stdin.close()
        for load in loads:
            load.wait()


if __name__ == "__main__":
    burn(int(sys.argv[1]), float(sys.argv[2]))

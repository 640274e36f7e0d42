"""This process: when it began, and the file that its output goes to."""

from __future__ import annotations

import os
import stat
import sys


def process_start_s() -> float:
    """When this process was started, on CLOCK_BOOTTIME: the time to import Python is the user's time too."""
    with open("/proc/self/stat", "rb") as file:
        ticks = int(file.read().rpartition(b")")[2].split()[19])
    return float(ticks / os.sysconf("SC_CLK_TCK"))


def output_name(fd: int) -> str:
    """The path of our output file, "" if it is no file."""
    try:
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return ""
    return ""


def settled_bytes(fd: int) -> int | None:
    """The size of our output file, once it is on the file server for others to read; None if it is no file."""
    try:
        sys.stdout.flush()
        os.fsync(fd)
        return os.fstat(fd).st_size
    except (OSError, ValueError):
        return None

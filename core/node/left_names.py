"""Names in /dev/shm that MPI programs left because they were killed while they started.

MPICH, and what comes of it, gives its shared memory a name until all ranks of a machine map it. Ranks that are killed
before that leave the name, and the memory below it, for ever. Whoever runs MPI programs cleans up: when all processes
of a node have ended, and when a node starts, for those that lost their power.
Rejected: to find out the name beforehand. It is made of that of the program's process manager, which need not be ours.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator

FOLDER = "/dev/shm"
PREFIX = "mpich_shm_"
#: A name is younger than this before its maker maps it, also where a busy machine does not run that for a moment.
YOUNG_S = 3.0


def sweep(folder: str = FOLDER) -> list[str]:
    """Remove such names of this user's that no process maps any more; return their paths."""
    found = [path for path in _names(folder) if _is_ours(path)]
    if not found:
        return []
    mapped = set(_mapped(folder))
    swept = []
    for path in found:
        if path not in mapped:
            try:
                os.unlink(path)
            except OSError:
                continue
            swept.append(path)
    return swept


def sweep_at_end(folder: str = FOLDER) -> None:
    """The same when a node has ended: a name that is young still is waited for, since nobody else removes it."""
    sweep(folder)
    if any(_is_young(path) for path in _names(folder)):
        time.sleep(YOUNG_S)
        sweep(folder)


def _names(folder: str) -> list[str]:
    try:
        return [os.path.join(folder, name) for name in os.listdir(folder) if name.startswith(PREFIX)]
    except OSError:
        return []


def _age_s(path: str) -> float:
    """For how long a name of this user's has been there; -1 where it is none."""
    try:
        found = os.lstat(path)
    except OSError:
        return -1.0
    return time.time() - found.st_ctime if stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid() else -1.0


def _is_ours(path: str) -> bool:
    return _age_s(path) > YOUNG_S


def _is_young(path: str) -> bool:
    return 0.0 <= _age_s(path) <= YOUNG_S


def _mapped(folder: str) -> Iterator[str]:
    """The files of the folder that a process maps. Others' processes cannot be read, and need not be."""
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as maps:
                for line in maps:
                    start = line.find(folder + "/")
                    if start >= 0:
                        yield line[start:].rstrip("\n")
        except OSError:
            continue

"""What the shell's ulimits leave to a node: raised as far as they may be, and refused by name where that is too little.

A soft limit is a default that its process may raise; most logins and jobs give 1,024 open files and allow many more.
"""

from __future__ import annotations

import os
import resource

#: Open files that a process of the runtime asks for; a raylet needs three for each worker and some for each node.
OPEN_FILES = 1 << 18
#: Address space of one process beside its mappings of the object store: the interpreter, libraries, threads.
PROCESS_BYTES = 1 << 30
#: Open files of a raylet for each worker (its socket and two logs), and what is kept free for all else.
FILES_A_WORKER = 3
SPARE_FILES = 40
#: A file that grows: logs and the head's journal.
FILE_BYTES = 64 << 20


class LimitError(OSError):
    """A limit of the shell or the job is too small for a node; the message names it and says what to do."""


def _raised(kind: int, wanted: int) -> int:
    """The soft limit, raised to ``wanted`` as far as the hard one allows; -1: there is none."""
    soft, hard = resource.getrlimit(kind)
    if soft == resource.RLIM_INFINITY:
        return -1
    aim = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if aim > soft:
        try:
            resource.setrlimit(kind, (aim, hard))
            return aim
        except (OSError, ValueError):
            pass  # a kernel or sandbox that does not allow what it says
    return soft


def raise_open_files() -> int:
    """Allow this process and its children as many open files as they may have; the limit then."""
    limit = _raised(resource.RLIMIT_NOFILE, OPEN_FILES)
    return OPEN_FILES if limit < 0 else limit


def free_files() -> int:
    """How many files this process may open yet."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY:
        return OPEN_FILES
    try:
        return soft - len(os.listdir("/proc/self/fd"))
    except OSError:  # none for this very question
        return 0


def room_for_workers(starting: int) -> int:
    """How many more workers this process, a raylet, has files for; those that are starting have not taken theirs."""
    return max(0, (free_files() - SPARE_FILES) // FILES_A_WORKER - starting)


def why_no_worker(there: int) -> str:
    """For people: what is in the way of one more worker."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return (
        f"the node has {there} processes and no open files for more: the limit is {limit} (ulimit -Hn); raise it, use "
        "more nodes, or fewer actors and workers at a time"
    )


def _mib(count: int) -> str:
    return f"{count >> 20} MiB"


def check_sizes(store_bytes: int) -> None:
    """Raise the limits of file sizes and address space. LimitError if the object store does not fit below them. It is a
    file in memory that each process maps twice, for reading and for writing."""
    needed = max(store_bytes, FILE_BYTES)
    limit = _raised(resource.RLIMIT_FSIZE, needed)
    if 0 <= limit < needed:
        raise LimitError(
            f"files may have {_mib(limit)} here (ulimit -f), and the object store is one of {_mib(store_bytes)}: raise "
            "the limit (ulimit -f unlimited), or set a smaller object_store_memory"
        )
    needed = 2 * store_bytes + PROCESS_BYTES
    limit = _raised(resource.RLIMIT_AS, needed)
    if 0 <= limit < needed:
        raise LimitError(
            f"a process may have {_mib(limit)} of address space here (ulimit -v), and each needs {_mib(needed)}: twice "
            f"the object store of {_mib(store_bytes)} and {_mib(PROCESS_BYTES)} of its own. Raise the limit (ulimit -v "
            "unlimited), or set a smaller object_store_memory"
        )


def room_beside(store_bytes: int, wanted: int) -> int:
    """How many of the wanted bytes a file beside the store may have, which each process maps twice as well."""
    space = resource.getrlimit(resource.RLIMIT_AS)[0]
    size = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if space != resource.RLIM_INFINITY:
        wanted = min(wanted, max(0, space - 2 * store_bytes - PROCESS_BYTES) // 2)
    return wanted if size == resource.RLIM_INFINITY else min(wanted, size)

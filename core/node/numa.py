"""The NUMA nodes of this machine, and on which of them the kernel is to put a thread's memory.

Python's library has no memory policy. So the system call is made by its number, which depends on the architecture.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
from collections.abc import Collection

from hpc.core.node.reading import text_of

DEFAULT, PREFERRED, PREFERRED_MANY = 0, 1, 5
#: (get_mempolicy, set_mempolicy)
CALLS = {
    "x86_64": (239, 238), "aarch64": (236, 237), "riscv64": (236, 237), "loongarch64": (236, 237),
    "ppc64le": (260, 261), "s390x": (269, 270),
}  # fmt: skip
FOLDER = "sys/devices/system/node"
BITS = 8 * ctypes.sizeof(ctypes.c_ulong)


def parse_list(text: str) -> frozenset[int]:
    """The numbers of a list like 0-3,8."""
    found: set[int] = set()
    for part in text.strip().split(","):
        match = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", part.strip())
        if match:
            found.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return frozenset(found)


def nodes(root: str = "/") -> dict[int, frozenset[int]]:
    """The CPUs of each NUMA node; empty where the kernel names none."""
    try:
        names = os.listdir(os.path.join(root, FOLDER))
    except OSError:
        return {}
    numbers = sorted(int(name[4:]) for name in names if re.fullmatch(r"node\d+", name))
    return {n: parse_list(text_of(os.path.join(root, FOLDER, f"node{n}", "cpulist"))) for n in numbers}


def distances(root: str = "/") -> dict[int, dict[int, int]]:
    """How far each NUMA node is from the others, as the firmware says it."""
    there = list(nodes(root))
    rows = {n: text_of(os.path.join(root, FOLDER, f"node{n}", "distance")).split() for n in there}
    return {n: dict(zip(there, map(int, row))) for n, row in rows.items() if all(word.isdigit() for word in row)}


def allowed_nodes(root: str = "/") -> frozenset[int]:
    """The NUMA nodes on which this process may have memory."""
    for line in text_of(os.path.join(root, "proc/self/status")).splitlines():
        if line.startswith("Mems_allowed_list:"):
            return parse_list(line.partition(":")[2])
    return frozenset()


def memory_policy() -> int:
    """The policy of this thread: DEFAULT, or what somebody has set. OSError where the kernel cannot say."""
    mode = ctypes.c_int(DEFAULT)
    _call(0, ctypes.byref(mode), None, ctypes.c_ulong(0), None, ctypes.c_ulong(0))
    return mode.value


def prefer_memory(where: Collection[int]) -> None:
    """Memory of this thread, and of those that it starts, comes from these nodes as long as they have any. Without any
    node it comes from that of the CPU on which the thread runs. Raises OSError."""
    if not where:
        _call(1, ctypes.c_int(DEFAULT), None, ctypes.c_ulong(0))
        return
    words = max(where) // BITS + 1
    mask = (ctypes.c_ulong * words)()
    for node in where:
        mask[node // BITS] |= 1 << node % BITS
    mode = PREFERRED if len(where) == 1 else PREFERRED_MANY
    _call(1, ctypes.c_int(mode), mask, ctypes.c_ulong(words * BITS + 1))


def why_no_policy() -> str:
    """Why the kernel forbids this process a memory policy that it has; empty where it does not, or has none."""
    try:
        _call(1, ctypes.c_int(DEFAULT), None, ctypes.c_ulong(0))
    except OSError as error:
        return "" if error.errno == errno.ENOSYS else os.strerror(error.errno or 0)
    return ""


def _call(which: int, *arguments: object) -> None:
    numbers = CALLS.get(os.uname().machine)
    if numbers is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    if libc.syscall(ctypes.c_long(numbers[which]), *arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))

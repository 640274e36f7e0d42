"""The threads of numerical libraries: as many as the task has CPUs, unless somebody has said otherwise.

A node that is full of tasks would otherwise run as many threads for each as the machine has cores. OMP_NUM_THREADS says
it, which the others (OpenBLAS, MKL, BLIS, numexpr) read too where their own variable is not set. So theirs are left
alone: a program that sets OMP_NUM_THREADS means them too. What does not read it gets its own variable. A library reads
these when it is loaded, so those that were loaded before the worker knew its lease or its environment are told.

numpy's BLAS is loaded once in the zygote, with one thread, because a process with threads cannot be forked. So is torch
where the user has it imported there (`worker_imports`). A worker whose env_vars name a number of threads tells the
library so after its fork; libraries that are loaded later read the variables themselves.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping
from typing import Any

from hpc.core.node.imports import SHARE

VARIABLE, *OTHERS = SHARE
#: The variables as the interpreter keeps them, and the name there: a worker looks before each task.
ENVIRON: dict[bytes, bytes] = getattr(os.environ, "_data", {})
KEY = VARIABLE.encode()

#: Variables in the order in which the library looks at them, and names of the function that sets its threads.
LIBRARIES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "openblas": (
        ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"),
        (
            "scipy_openblas_set_num_threads64_",
            "scipy_openblas_set_num_threads",
            "openblas_set_num_threads64_",
            "openblas_set_num_threads",
        ),
    ),
    "mkl_rt": (("MKL_NUM_THREADS", "OMP_NUM_THREADS"), ("MKL_Set_Num_Threads",)),
}


_limited = False


def limit() -> None:
    """Have libraries that are loaded from now on start no threads until a lease says how many; for workers that are not
    forked. What the environment says goes before."""
    global _limited
    if VARIABLE not in os.environ:
        os.environ[VARIABLE] = "1"
        _limited = True


class LeaseThreads:
    """The threads of this process by the CPUs of its lease."""

    def __init__(self) -> None:
        self._given = VARIABLE in os.environ and not _limited
        if self._given and "torch" in sys.modules:
            follow(os.environ)
        self._others = [name for name in OTHERS if name not in os.environ]
        self._now = 1  # of what is loaded: the zygote sees to that, or `limit`
        #: What `ENVIRON` has while nobody changes it.
        self.value = ENVIRON.get(KEY)

    def use(self, cpus: int) -> None:
        """A lease with so many whole CPUs begins."""
        count = max(1, cpus)
        for name in self._others:
            os.environ[name] = str(count)
        if self._given:
            return
        os.environ[VARIABLE] = str(count)
        self.value = ENVIRON.get(KEY)
        if count != self._now:
            self._now = count
            follow(os.environ)

    def again(self) -> None:
        """A task has changed the variable: the next one finds what its lease says, or what the user has said."""
        if not self._given:
            os.environ[VARIABLE] = str(self._now)
        self.value = ENVIRON.get(KEY)


def wanted(env: Mapping[str, str], names: tuple[str, ...]) -> int:
    """The number of threads that the variables ask for, 0 where they say nothing."""
    for name in names:
        first = env.get(name, "").split(",")[0].strip()
        if first.isdigit() and int(first) > 0:
            return int(first)
    return 0


def follow(env: Mapping[str, str]) -> None:
    """Give the libraries that are loaded already the threads that ``env`` asks for."""
    for part, (names, functions) in LIBRARIES.items():
        count = wanted(env, names)
        if not count:
            continue
        for path in loaded(part):
            library = ctypes.CDLL(path)
            for name in functions:
                function = getattr(library, name, None)
                if function is not None:
                    function(ctypes.c_int(count))
                    break
    torch: Any = sys.modules.get("torch")
    count = wanted(env, (VARIABLE,))
    if count and hasattr(torch, "set_num_threads"):  # not there while it is being imported
        torch.set_num_threads(count)


def loaded(part: str) -> list[str]:
    """Paths of the libraries of this process whose file name contains ``part``."""
    found: dict[str, None] = {}
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
            for line in maps:
                path = line.rstrip("\n").partition("/")[2]
                if part in os.path.basename(path) and ".so" in path:
                    found["/" + path] = None
    except OSError:
        pass
    return list(found)

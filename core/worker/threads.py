"""The threads of numerical libraries that were loaded before a worker knew its environment.

numpy's BLAS is loaded once in the zygote, with one thread, because a process with threads cannot be forked. A worker
whose env_vars name a number of threads tells the library so after its fork; libraries that are loaded later read the
variables themselves.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping

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

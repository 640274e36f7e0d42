"""How many threads torch and numpy compute with, limited for a while.

Matrices of small networks gain nothing by a second thread. On a busy machine the threads of a team wait for each other.
An iteration of PPO took 42 s with two threads and 0.4 s with one. To set a number costs 0.2 us.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

#: Endings of OpenBLAS's functions, by who built it.
_NAMES = ("scipy_openblas_{}_num_threads64_", "openblas_{}_num_threads64_", "openblas_{}_num_threads")


@contextmanager
def limited_threads(count: int = 1) -> Iterator[None]:
    """torch and numpy's OpenBLAS use so many threads within, and afterwards as many as before."""
    import torch

    before = torch.get_num_threads()
    if before != count:
        torch.set_num_threads(count)
    try:
        with limited_numpy_threads(count):
            yield
    finally:
        if before != count:
            torch.set_num_threads(before)


@contextmanager
def limited_numpy_threads(count: int = 1) -> Iterator[None]:
    """numpy's OpenBLAS uses so many threads within; another BLAS is left as it is."""
    found = _openblas()
    before = found[0]() if found else count
    if before == count:
        yield
        return
    assert found is not None
    found[1](count)
    try:
        yield
    finally:
        found[1](before)


@functools.cache
def _openblas() -> tuple[Callable[[], int], Callable[[int], Any]] | None:
    """The functions that get and set the number of threads of the OpenBLAS that came with numpy."""
    package = Path(np.__file__).parent
    for folder in (package.parent / "numpy.libs", package / ".libs", package / ".dylibs"):
        for path in sorted(folder.glob("*openblas*")):
            library = ctypes.CDLL(str(path))
            for name in _NAMES:
                if hasattr(library, name.format("set")):
                    return getattr(library, name.format("get")), getattr(library, name.format("set"))
    return None

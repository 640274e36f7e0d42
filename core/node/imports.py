"""Imports of a node's processes: made once for all that are forked, and as cheap as they can be.

While modules are made nothing is garbage, so the collector finds nothing and costs a twentieth of the time. What is
there when a process forks is not looked at again by it or its children: a look would copy the pages they share.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
from collections.abc import Iterator, Sequence

#: Numerical libraries start threads as they are loaded, one for each core, which are busy for a while.
THREAD_LIMITS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
#: What a process gets that has a share of a node's CPUs: those above read the first where their own is not set, the
#: others (of what is written in Rust) do not.
SHARE = ("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "POLARS_MAX_THREADS")


def import_threadless(modules: Sequence[str]) -> None:
    """Import `modules` with the thread pools of numerical libraries limited to one thread.

    The variables are put back afterwards: what is imported later follows its own environment.
    """
    saved = {name: os.environ.get(name) for name in THREAD_LIMITS}
    os.environ.update(dict.fromkeys(THREAD_LIMITS, "1"))
    try:
        for module in modules:
            importlib.import_module(module)
    finally:
        for name, value in saved.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """For a process of one thread: no collector meanwhile, and none of what is there then is ever looked at by it."""
    gc.disable()
    try:
        yield
    finally:
        keep_all()


def keep_all() -> None:
    """The collector works, and looks at nothing that is there now."""
    gc.freeze()
    gc.enable()

"""What later tasks of a process import, imported beside its first ones: most of a first query's time is that.

The first task of a process that needs these modules takes 30 to 50 ms of CPU time longer. After a task of any dataset
the process has some idle time as a rule, so they come then.
"""

from __future__ import annotations

import contextlib
import importlib
import threading
from functools import cache

#: Readers of parquet, groups, joins and sorts, and what they use of pyarrow.
MODULES = (
    "pyarrow.parquet", "pyarrow._acero", "hpc.data.io.parquet", "hpc.data.shuffle.aggregate", "hpc.data.shuffle.join",
    "hpc.data.shuffle.sort", "hpc.data.expressions",
)  # fmt: skip


@cache
def import_early() -> None:
    """Begin to import them, once in a process, in a thread of its own."""
    threading.Thread(target=_import, name="hpc-data-imports", daemon=True).start()


def _import() -> None:
    for module in MODULES:
        with contextlib.suppress(ImportError):  # whatever needs it says so
            importlib.import_module(module)

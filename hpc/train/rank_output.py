"""What ranks have written, kept in the run's directory when one of them has failed: it would go with the session.

<run>/ranks/attempt_0/rank3.log     the end of what rank 3 wrote to stdout and to stderr
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import hpc
from hpc import spi
from hpc.runs.storage import OUTPUT_FOLDER
from hpc.util.scheduling_strategies import NodeAffinitySchedulingStrategy

#: Of each of the two streams so much is kept.
KEPT_BYTES = 256 << 10
#: Tasks on the nodes may take so long.
KEEP_S = 2.0

#: A rank, and the files in which its stdout and stderr are.
RankOutput = tuple[int, str, str]


def files_of_output() -> tuple[str, str]:
    """The files in which stdout and stderr of this process are; "" for what is no file."""
    found = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in (1, 2)]
    out, err = (path if os.path.isfile(path) else "" for path in found)
    return out, err


def copy_output(outputs: Sequence[RankOutput], run: str, folder: str) -> int:
    """Copy the end of what these ranks of this node wrote to a folder of the run's directory; how many wrote any.

    0 where the run's directory is not on a file system that this node shares."""
    if not os.path.isdir(run):
        return 0
    kept = 0
    for rank, *paths in outputs:
        parts = [(name, _end_of(path)) for name, path in zip(("stdout", "stderr"), paths)]
        if any(data for _, data in parts):
            os.makedirs(folder, exist_ok=True)
            with open(os.path.join(folder, f"rank{rank}.log"), "wb") as file:
                file.writelines(b"==== " + name.encode() + b"\n" + data for name, data in parts if data)
            kept += 1
    return kept


def _end_of(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - KEPT_BYTES))
            return spi.without_marks(file.read())
    except OSError:
        return b""


def keep_output(by_node: Mapping[str, Sequence[RankOutput]], run: str, attempt: int) -> str:
    """Have each node copy what its ranks wrote. The folder where it is; "" if there is nothing."""
    folder = os.path.join(run, OUTPUT_FOLDER, f"attempt_{attempt}")
    task = hpc.remote(num_cpus=0)(copy_output)
    refs = [
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(outputs, run, folder)
        for node, outputs in by_node.items()
    ]
    kept = 0
    for ref in hpc.wait(refs, num_returns=len(refs), timeout=KEEP_S)[0] if refs else ():
        try:
            kept += hpc.get(ref)
        except Exception:  # a node that has died, or a disk that is full: the failure itself is what matters
            continue
    return folder if kept else ""

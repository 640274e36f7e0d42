"""What `--stage` costs and saves: packing, bringing an environment to the nodes' disks, an import on all at once.

All nodes are namespaces of this machine with a disk in memory each, and the "shared file system" is this machine's own:
what a busy file server costs is not to be seen here. So the files that an import opens there are counted beside the
seconds.
"""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from typing import Any

from bench import slurm, spaces
from bench.children import Children, MeasureError, parse
from bench.parts import Skipped, table
from bench.table import number

LIMIT_S = 300.0
#: What is imported, and what that needs: the first that this Python has all of.
WANTED = (
    ("scipy.stats", ("scipy",)),
    ("numpy", ()),
)


def measure(bed: Any, nodes: int) -> dict[str, Any]:
    """The record of one allocation."""
    from small_venv import make_venv

    module, needs = next((m, n) for m, n in WANTED if all(_there(name) for name in n))
    folder = bed.scratch / "work"
    make_venv(folder / "venv", needs)
    probe = spaces.ROOT / "bench" / "probes" / "stage.py"
    command = [
        sys.executable,
        str(probe),
        str(folder / "venv"),
        str(folder / "jobs"),
        str(bed.scratch / "local"),
        module,
    ]
    out = folder / "stage.out"
    script = folder / "stage.sh"
    script.write_text("#!/bin/bash\nexec " + " ".join(command) + "\n")
    done = bed.run(
        ["sbatch", "--wait", f"--nodes={nodes}", "--time=10", f"--output={out}", str(script)], timeout_s=LIMIT_S
    )
    said = out.read_text() if out.exists() else ""
    records = parse(said)
    if done.returncode != 0 or not records:
        raise MeasureError(f"{nodes} nodes: exit code {done.returncode}: {' | '.join(said.strip().splitlines()[-3:])}")
    return {"module": module, **records[0]}


def _there(name: str) -> bool:
    try:
        return bool(importlib.metadata.files(name))
    except importlib.metadata.PackageNotFoundError:
        return False


def stage(_children: Children, quick: bool) -> dict[str, Any]:
    """A row for each number of nodes."""
    tests = str(Path(spaces.ROOT, "tests"))
    if tests not in sys.path:
        sys.path.insert(0, tests)
    rows, module, about = [], "", ""
    try:
        for nodes in (4,) if quick else (1, 4, 8):
            with slurm.bed(nodes, unshared=("local",), mem_mb=500) as bed:
                found = measure(bed, nodes)
            module, about = found["module"], f"{found['files']:,} files, {found['mb']:.0f} MB"
            keys = ("pack", "again", "scheduler", "tree", "shared", "own")
            opens = f"{found['shared_opens']:,} / {found['own_opens']:,}"
            rows.append([str(nodes), *(number(found[key]) for key in keys), opens])
    except slurm.NoSlurm as error:
        raise Skipped(str(error)) from None
    note = (
        f"Seconds; a virtual environment with the Python that it was made from ({about}). pack: into one archive, and "
        "again when nothing has changed. To all nodes, unpacked: by Slurm's sbcast, and by a tree of copies. "
        f"`import {module}` on all nodes at once, from the shared environment and from the nodes' own. Files: those of "
        "the shared environment that one such import looks for. All nodes share this machine's cores and page cache."
    )
    head = [
        "nodes",
        "pack",
        "pack again",
        "sbcast",
        "tree",
        "import, shared",
        "import, own disk",
        "shared files, shared / own",
    ]
    return table("An environment on the nodes' own disks", note, head, rows)

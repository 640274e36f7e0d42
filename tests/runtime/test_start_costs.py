"""What the start of a node costs, as counts with head room: a guard that a busy machine does not disturb.

On a parallel file system each module that each node reads is a few questions to the same servers, and a node that
shares its cores with others starts as fast as it is cheap. The counts are those of bench/probes/node_start.py. Whoever
makes the start cheaper lowers the bounds; whoever adds to it has a reason to say so here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROBE = Path(__file__).resolve().parents[2] / "bench" / "probes" / "node_start.py"
#: process -> modules of ours, and of others, at most. Seen when this was written: 29 and 69, 62 and 10, 87 and 88.
#: Since then the supervisor has the table of vendors (3; no vendor without its devices), 3 for ranks, and the reader of
#: the kernel's files. Raylet and zygote read a file for each conversation of the wire (14) since it is a package,
#: the raylet those of metrics (8), and those of events, of what it keeps for libraries and for the head (4).
MODULES = {"supervisor": (40, 100), "raylet": (101, 25), "zygote": (112, 125)}
#: What takes long to import, and that few nodes need: environments of their own, checksums, GPUs, the head.
NOT_AT_START = {
    "supervisor": {"asyncio", "hashlib", "logging", "numpy", "shutil", "ssl", "subprocess"},
    "raylet": {"asyncio", "hashlib", "numpy", "shutil", "ssl", "subprocess", "zipfile", "hpc.core.head.main"},
    "zygote": {"asyncio", "hashlib", "shutil", "ssl", "subprocess", "zipfile", "hpc.core.head.main"},
}


@pytest.fixture(scope="module")
def counts() -> dict[str, Any]:
    done = subprocess.run([sys.executable, str(PROBE)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.partition("@bench ")[2])
    return found


@pytest.mark.parametrize("process", MODULES)
def test_a_process_of_a_node_imports_no_more_than_it_did(counts: dict[str, Any], process: str) -> None:
    names = counts["names"][process]
    ours = [name for name in names if name.split(".")[0] == "hpc"]
    found, bounds = (len(ours), len(names) - len(ours)), MODULES[process]
    assert found[0] <= bounds[0] and found[1] <= bounds[1], f"(ours, of others): {found}, bounds {bounds}"
    assert not NOT_AT_START[process] & set(names)


def test_a_node_has_no_more_processes_than_it_had(counts: dict[str, Any]) -> None:
    assert counts["processes"] == 6, "keeper, supervisor, raylet, zygote, and a worker for each CPU"


def test_a_node_looks_for_no_more_files_than_it_did(counts: dict[str, Any]) -> None:
    if "files" not in counts:
        pytest.skip("strace is not installed, or may not attach to a process here")
    assert 500 < counts["files"] < 4200

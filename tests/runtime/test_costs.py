"""What a task costs, as counts with head room: a guard against regressions that a busy machine does not disturb.

The programs and how they are counted are those of bench/probes/counts.py; docs/performance.md shows the counts. Whoever
makes the path shorter lowers the bounds; whoever lengthens it has a reason to say so here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROBE = Path(__file__).resolve().parents[2] / "bench" / "probes" / "counts.py"
ASYNC, SYNC, CALLS, MANY_CALLS = "tasks async", "tasks sync", "actor calls sync", "actor calls async"
STORED = "stored async"
#: what -> at most, for each task or call. Seen when this was written: about 60 % of each.
ONE_BY_ONE = {
    "calls, driver": 200,
    "calls, worker": 170,
    "instructions, driver": 3000,
    "frames out": 1.2,
    "frames in": 1.2,
    "frames, raylet": 0.1,
    "sleeps, driver": 2.0,
    "sleeps, worker": 2.0,
    "blocks left": 1,
    "system calls, driver": 13,
    "system calls, worker": 20,
}
BOUNDS = {
    ASYNC: {
        "calls, driver": 70,
        "calls, worker": 75,
        "instructions, driver": 800,
        "frames out": 0.15,
        "frames in": 0.15,
        "frames, raylet": 0.1,
        "sleeps, driver": 0.2,
        "sleeps, worker": 0.2,
        "blocks held": 16,
        "blocks left": 6,
        "system calls, driver": 0.6,
        "system calls, worker": 0.9,
    },
    MANY_CALLS: {
        "calls, driver": 27,
        "calls, worker": 20,
        "instructions, driver": 600,
        "frames out": 0.15,
        "frames in": 0.15,
        "frames, raylet": 0.1,
        "sleeps, driver": 0.2,
        "sleeps, worker": 0.2,
        "blocks left": 6,
        "system calls, driver": 0.6,
        "system calls, worker": 0.9,
    },
    STORED: {
        "calls, driver": 105,
        "calls, worker": 155,
        "instructions, driver": 1200,
        "frames out": 0.15,
        "frames in": 0.15,
        "frames, raylet": 0.1,
        "sleeps, driver": 0.2,
        "sleeps, worker": 0.2,
        "blocks left": 6,
        "system calls, driver": 0.8,
        "system calls, worker": 1.0,
    },
    SYNC: ONE_BY_ONE,
    CALLS: ONE_BY_ONE,
}
STRACE = {"system calls, driver", "system calls, worker"}


@pytest.fixture(scope="module")
def counts() -> dict[str, dict[str, float]]:
    done = subprocess.run([sys.executable, str(PROBE)], capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, float]] = json.loads(done.stdout.partition("@bench ")[2])
    return found


@pytest.mark.parametrize("program", [ASYNC, SYNC, CALLS, MANY_CALLS, STORED])
def test_a_task_costs_no_more_than_it_did(counts: dict[str, dict[str, float]], program: str) -> None:
    found, bounds = counts[program], BOUNDS[program]
    assert bounds.keys() - found.keys() <= STRACE
    above = {what: (n, bounds[what]) for what, n in found.items() if n > bounds[what]}
    assert not above, f"{program}, (count, bound) for each: {above}"


def test_system_calls_were_counted(counts: dict[str, dict[str, float]]) -> None:
    if not counts[SYNC].keys() >= STRACE:
        pytest.skip("strace is not installed, or may not attach to a process here")
    assert all(counts[SYNC][what] >= 1 for what in STRACE)

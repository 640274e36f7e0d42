"""Nodes that die, refuse or are stopped under a session on a real Slurm."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
from desk import Desk, launcher
from netbed import wait_for

from hpc.core.node import rundir

pytestmark = pytest.mark.slurm

TASKS = """
    import socket, sys, time
    import hpc
    hpc.init()

    @hpc.remote
    def where(seconds, number):
        open(f"begun-{number}-{socket.gethostname()}-{time.time()}", "w").close()
        time.sleep(seconds)
        return socket.gethostname()

    refs = [where.remote(float(sys.argv[1]), number) for number in range(int(sys.argv[2]))]
    print("hosts", *sorted(hpc.get(refs)), flush=True)
"""


@pytest.fixture
def nodes(desk: Desk) -> Iterator[Desk]:
    """What killed nodes leave is swept, as the next session there would."""
    desk.script("tasks.py", TASKS)
    yield desk
    desk.bed.cancel_all()
    rundir.sweep(os.environ["HPC_TMPDIR"])


def test_tasks_of_a_node_whose_processes_are_all_killed_are_retried_within_seconds(nodes: Desk) -> None:
    """Long before Slurm knows, and neither the retries nor the end of the session wait for it."""
    process = nodes.start(*launcher(), "-N3", "-c2", "-t5", "tasks.py", "6", "6")
    wait_for("tasks on all nodes", lambda: len(list(nodes.folder.glob("begun-*"))) == 6, 30.0)
    time.sleep(2.5)  # a node is known to the head for some seconds
    nodes.bed.kill_node("nid0002")
    killed = time.time()
    out, err = process.communicate(timeout=40)
    took = time.time() - killed
    assert process.returncode == 0 and "nid0002" not in out.partition("hosts")[2], err
    again = max(float(path.name.rpartition("-")[2]) for path in nodes.folder.glob("begun-*")) - killed
    assert 1.0 < again < 8.0, again
    assert took < again + 6.0 + 5.0, (took, again)
    assert "lost: nid0002" in err

"""What a job that a real Slurm has ended leaves: its report, with the cause and the numbers. Limits of time are in
test_slurm_time.py."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import pytest
from desk import SlurmDesk as Desk
from desk import node_processes, nothing_left
from netbed import wait_for

pytestmark = pytest.mark.slurm

WORKS = """
    import time
    import hpc
    hpc.init()

    @hpc.remote
    def work(number):
        return number

    assert len(hpc.get([work.remote(number) for number in range(50)])) == 50
    print("up", flush=True)
    time.sleep(280)
"""


def test_scancel_and_a_kill_of_all_of_it_are_told_apart(desk: Desk) -> None:
    """Two jobs at a time. Of the second everything is killed at once, as Slurm does when its patience ends."""
    desk.script("works.py", WORKS)
    for _ in range(2):
        desk.launch("-N1", "-c2", "-t5", "--detach", "works.py", check=True)
    for number in (1, 2):
        wait_for("its tasks", lambda n=number: desk.report(n)["named"], 90.0)  # type: ignore[misc]
        assert desk.report(number)["ending"]["cause"] == "running"
    desk.run("scancel", desk.job_id(1), check=True)
    (host,) = desk.bed.nodes_of(desk.job_id(2))
    whole = [pid for name, pids in node_processes(desk, host).items() if name not in desk.bed.daemons for pid in pids]
    for signum in (signal.SIGSTOP, signal.SIGKILL):  # nobody sees another one's end
        for pid in whole:
            with suppress(ProcessLookupError):
                os.kill(pid, signum)
    for number in (1, 2):
        desk.bed.wait_job(desk.job_id(number), ["CANCELLED", "FAILED"])
    nothing_left(desk, swept=True)
    told, killed = desk.report(1), desk.report(2)
    assert told["ending"]["cause"] == "signal" and killed["ending"]["cause"] == "killed"
    for number, facts in enumerate((told, killed), 1):
        assert {one["name"]: (one["count"], one["failed"]) for one in facts["named"]} == {"work": (50, 0)}
        desk.hpc("report", str(number), check=True)
        assert "50" in desk.page(number)
    assert "It was told to end" in desk.page(1) and "It was ended by force" in desk.page(2)

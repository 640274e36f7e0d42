"""A chain of short jobs that does what one long job would, on a real Slurm."""

from __future__ import annotations

import json

import pytest
from desk import Desk
from netbed import wait_for

pytestmark = pytest.mark.slurm

STEPS = 70
SCRIPT = f"""
    import os, sys, time
    import hpc

    @hpc.remote(num_cpus=0)
    class Sum:
        def __init__(self):
            self.added = []
        def add(self, number):
            self.added.append(number)
        def all(self):
            return self.added
        def __hpc_checkpoint__(self):
            return self.added
        def __hpc_restore__(self, added):
            self.added = added

    @hpc.remote(scheduling_strategy="SPREAD")
    def square(number):
        time.sleep(0.4)
        return number * number

    def goes_on():
        '''Keep what is done, and have the next job do the rest.'''
        hpc.get(sums.__hpc_save__.remote())
        hpc.save_state("next", at)
        print("link", os.environ["HPC_CHAIN_LINK"], "of", os.environ["HPC_CHAIN_LINKS"], "did up to", at, flush=True)
        sys.exit(75)

    hpc.init()
    context = hpc.get_runtime_context()
    sums = Sum.options(name="sums").remote()
    at = hpc.saved_state("next", 0)
    while at < {STEPS}:
        ref = square.remote(at)
        while not hpc.wait([ref], timeout=0.1)[0]:
            if context.draining():
                goes_on()
        hpc.get(sums.add.remote(hpc.get(ref)))
        at += 1
    print("result", sum(hpc.get(sums.all.remote())), len(hpc.get(sums.all.remote())))
"""


def test_three_jobs_have_the_result_of_one(desk: Desk) -> None:
    desk.script("works.py", SCRIPT)
    desk.script("all.txt", "of yesterday\n")
    asked = ["-N2", "-c2", "-t1", "--chain=8", "--drain=51s", "-o", "all.txt"]
    done = desk.launch(*asked, "works.py", timeout_s=200.0)
    assert "of yesterday" not in done.stdout, "it is no output of these jobs"
    assert done.returncode == 0, done.stderr + done.stdout
    expected = sum(number * number for number in range(STEPS))
    assert f"result {expected} {STEPS}" in done.stdout, done.stdout
    links = [line.split() for line in done.stdout.splitlines() if line.startswith("link")]
    assert [link[1] for link in links] == [str(n + 1) for n in range(len(links))] and len(links) >= 2
    steps = [int(link[-1]) for link in links]
    assert steps == sorted(steps) and steps[0] > 0 and steps[-1] < STEPS
    last = len(links) + 1
    said = [json.loads((desk.jobs / str(n) / "status.json").read_text()) for n in range(1, last + 1)]
    assert [status["exit_code"] for status in said] == [75] * (last - 1) + [0]
    wait_for("an empty queue", lambda: desk.run("squeue", "-h").stdout == "", 90.0)
    assert not (desk.jobs / str(last + 1) / "driver.log").exists(), "those behind the last one never begin"


def test_a_script_that_fails_ends_its_chain(desk: Desk) -> None:
    desk.script("fails.py", "import sys; sys.exit(3)")
    done = desk.launch("-N1", "-t1", "--chain=3", "fails.py")
    assert done.returncode == 3
    wait_for("an empty queue", lambda: desk.run("squeue", "-h").stdout == "", 90.0)


def test_a_chain_that_is_cancelled_has_no_other_jobs(desk: Desk) -> None:
    desk.script("waits.py", "import time; print('up', flush=True); time.sleep(600)")
    first = desk.launch("-N1", "-t5", "--chain=3", "--detach", "waits.py").stdout.strip()
    wait_for("the script", lambda: "up" in desk.hpc("logs", "1").stdout, 90.0)
    # By the scheduler's own command: the next one sees that its user wanted an end.
    desk.run("scancel", first, check=True)
    wait_for("an empty queue", lambda: desk.run("squeue", "-h").stdout == "", 90.0)
    assert "was cancelled" in desk.hpc("status", "2").stdout + desk.hpc("logs", "2").stdout
    desk.launch("-N1", "-t5", "--chain=2", "--detach", "waits.py", check=True)
    wait_for("the script", lambda: "up" in desk.hpc("logs", "4").stdout, 90.0)
    desk.hpc("cancel", "4", check=True)
    wait_for("an empty queue", lambda: desk.run("squeue", "-h").stdout == "", 90.0)
    assert "up" not in desk.hpc("logs", "5").stdout


def test_a_chain_of_which_a_job_is_refused_is_not_begun(desk: Desk) -> None:
    desk.script("works.py", "print('never')")
    refused = desk.launch("-N1", "-t1", "--chain=2", "--partition=nowhere", "works.py")
    assert refused.returncode != 0 and desk.run("squeue", "-h").stdout == ""

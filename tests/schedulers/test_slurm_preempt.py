"""Nodes that a real Slurm takes away while a session runs: it drains in the time that it is given, and what was saved
goes on in another job, or in the same one when that is started again."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest
from desk import SlurmDesk
from netbed import wait_for
from slurm_bed import SlurmBed, reason_to_skip
from test_slurm_inside import ROOT

pytestmark = pytest.mark.slurm

GRACE_S = 25
PARTITIONS = (
    "PreemptType=preempt/partition_prio",
    "PreemptMode=REQUEUE",
    f"PartitionName=taken Nodes=ALL PriorityTier=1 PreemptMode=CANCEL GraceTime={GRACE_S} MaxTime=1:00:00 State=UP",
    f"PartitionName=again Nodes=ALL PriorityTier=1 PreemptMode=REQUEUE GraceTime={GRACE_S} MaxTime=1:00:00 State=UP",
    "PartitionName=high Nodes=ALL PriorityTier=9 PreemptMode=OFF MaxTime=1:00:00 State=UP",
)
#: Counts up, one number after the other, until it has all that it is to have, in as many jobs as that takes.
COUNTS = """
    import os, sys, time
    import hpc

    @hpc.remote(num_cpus=0, name="counted")
    class Counted:
        def __init__(self):
            self.numbers = []
        def add(self, number):
            self.numbers.append(number)
            return len(self.numbers)
        def all(self):
            return self.numbers
        def __hpc_checkpoint__(self):
            return self.numbers
        def __hpc_restore__(self, numbers):
            self.numbers = numbers

    hpc.init()
    context = hpc.get_runtime_context()
    hpc.on_drain(lambda notice: print(f"drains: {notice.reason}, {notice.left_s:.0f} s left", flush=True))
    counted = Counted.remote()
    begun = hpc.saved_state("begun", 0)
    hpc.save_state("begun", begun + 1)
    have = hpc.get(counted.all.remote())
    print("up", begun, len(have), flush=True)
    while len(have) < 5 or (not begun and not context.draining()):
        hpc.get(counted.add.remote(len(have)))
        have = hpc.get(counted.all.remote())
        time.sleep(0.1)
    if context.draining() and not begun:
        hpc.get(counted.__hpc_save__.remote())
        print("saved", len(have), flush=True)
        sys.exit(75)
    print("counted", have == list(range(len(have))), len(have), flush=True)
"""


@pytest.fixture(scope="module")
def bed() -> Iterator[SlurmBed]:
    why = reason_to_skip()
    if why:
        pytest.skip(why)
    with SlurmBed(nodes=2, options=PARTITIONS) as one:
        yield one


@pytest.fixture
def desk(bed: SlurmBed, request: pytest.FixtureRequest) -> Iterator[SlurmDesk]:
    one = SlurmDesk.at(bed, request.node.name)
    one.script("counts.py", COUNTS)
    yield one
    bed.cancel_all()


def preempt(desk: SlurmDesk, nodes: int = 2, where: str = "") -> None:
    """Somebody of higher priority wants the nodes."""
    command = ["sbatch", "-p", "high", f"-N{nodes}", "-c2", "-t1", "--wrap=sleep 1", "-o", "/dev/null"]
    desk.run(*command, *([f"--nodelist={where}"] if where else []), check=True)


def begin_again(desk: SlurmDesk, job: str) -> None:
    """Slurm would let a job that was put back into the queue wait for two minutes. A node refuses one that comes back
    within the same second."""
    desk.bed.wait_job(job, ["PENDING"], 60.0)
    soon = ["scontrol", "update", f"jobid={job}", "starttime=now+2"]
    wait_for("the job to be free", lambda: desk.run(*soon).returncode == 0, 90.0, 0.2)


def test_a_session_whose_nodes_are_taken_drains_in_the_grace_time_and_its_chain_goes_on(desk: SlurmDesk) -> None:
    desk.launch("-N2", "-c2", "-t5", "--partition=taken", "--chain=2", "--detach", "counts.py", check=True)
    wait_for("the script", lambda: "up 0 0" in desk.hpc("logs", "1").stdout, 90.0)
    preempt(desk)
    done = desk.hpc("attach", "2", timeout_s=90.0)
    first = desk.hpc("logs", "1").stdout
    (told,) = [line for line in first.splitlines() if line.startswith("drains: ")]
    assert "taken for another job" in told and 5 <= int(told.split()[-3]) <= GRACE_S, told
    have = int(first.partition("saved ")[2].split()[0])
    assert desk.status(1)["exit_code"] == 75, first
    assert done.returncode == 0 and f"up 1 {have}" in done.stdout and "counted True" in done.stdout, done.stdout


def test_a_job_that_is_requeued_goes_on_with_what_it_saved(desk: SlurmDesk) -> None:
    follower = desk.start(
        sys.executable, "-m", "hpc", "launch", "-N2", "-c2", "-t5", "--partition=again", "--requeue", "counts.py"
    )
    job = desk.job_id()
    wait_for("the script", lambda: "up 0 0" in desk.hpc("logs", "1").stdout, 90.0)
    preempt(desk)
    begin_again(desk, job)
    out, err = follower.communicate(timeout=90)
    assert follower.returncode == 0, out + err
    have = int(out.partition("saved ")[2].split()[0])
    assert "drains: " in out and f"up 1 {have}" in out and "counted True" in out, out


def test_a_job_whose_time_is_over_is_put_back_into_the_queue(desk: SlurmDesk) -> None:
    """By the template for such jobs: Slurm's own script, our states."""
    template = str(ROOT / "templates" / "slurm" / "preemptible.sbatch")
    job = desk.run("sbatch", "--parsable", "-N1", "-t1", template, "counts.py", env={"HPC_DRAIN": "48s"}, check=True)
    number = job.stdout.strip()
    desk.bed.wait_job(number, ["RUNNING"], 90.0)
    begin_again(desk, number)
    desk.bed.wait_job(number, ["COMPLETED"], 60.0)
    out = (desk.folder / f"preemptible-{number}.out").read_text()
    assert "drains: the time limit comes near" in out and "up 1 " in out and "counted True" in out, out


def test_a_step_that_is_ended_ends_the_script_in_order(desk: SlurmDesk) -> None:
    desk.launch("-N1", "-c2", "-t5", "--detach", "counts.py", check=True)
    wait_for("the script", lambda: "up 0 0" in desk.hpc("logs", "1").stdout, 90.0)
    desk.run("scancel", "--signal=TERM", f"{desk.job_id()}.0", check=True)
    desk.wait_status("its end", lambda status: status["state"] == "ended")
    assert "drains: SIGTERM to the nodes" in desk.hpc("logs", "1").stdout


INIT = """
    import threading, time
    import hpc

    hpc.init()
    drained = threading.Event()
    hpc.on_drain(lambda notice: (print("drains:", notice.reason, flush=True), drained.set()))
    print("up", flush=True)
    assert drained.wait(50)
"""


@pytest.mark.parametrize("how", ["signal", "time", "taken"])
def test_a_session_of_init_in_a_job_drains_too(desk: SlurmDesk, how: str) -> None:
    desk.script("init.py", INIT)
    env = {"HPC_DRAIN_SIGNAL": "USR1", "HPC_DRAIN": "54s" if how == "time" else "5s"}
    wrap = f"--wrap=exec {sys.executable} init.py"
    out = desk.folder / "init.out"
    options = ["-N2", "-c2", "-t1", "-p", "taken", "-o", str(out)]
    job = desk.run("sbatch", "--parsable", *options, wrap, env=env, check=True).stdout.strip()
    wait_for("the script", lambda: out.exists() and "up" in out.read_text(), 90.0)
    if how == "signal":
        desk.run("scancel", "--batch", "--signal=USR1", job, check=True)
    elif how == "taken":
        preempt(desk)
    desk.bed.wait_job(job, ["COMPLETED"], 60.0)
    why = {"signal": "SIGUSR1", "time": "the time limit comes near", "taken": "its scheduler takes it for another job"}
    assert f"drains: {why[how]}" in out.read_text()


def test_what_was_preempted_without_saving_says_so(desk: SlurmDesk) -> None:
    desk.script("waits.py", "import time, hpc\nhpc.init()\nprint('up', flush=True)\ntime.sleep(600)\n")
    desk.launch("-N1", "-c2", "-t5", "--partition=taken", "--detach", "waits.py", check=True)
    wait_for("the script", lambda: "up" in desk.hpc("logs", "1").stdout, 90.0)
    preempt(desk)
    desk.wait_status("its end", lambda status: status["state"] == "ended", 60.0)
    assert json.loads((desk.jobs / "1" / "status.json").read_text())["exit_code"] == 123
    assert "taken for another job" in desk.hpc("logs", "1").stdout + desk.hpc("status", "1").stdout


GROWS = """
    import time
    import numpy as np
    import hpc
    from hpc.state import gather

    hpc.init()

    @hpc.remote(max_retries=0, num_cpus=2)
    def make(number):
        with open("made.txt", "a") as file:
            file.write(f"{number} ")
        time.sleep(0.5)
        return hpc.get_runtime_context().get_node_id(), np.full(5_000_000, number, np.uint8)

    def alive():
        return [row["node"] for row in gather.node_rows() if row["alive"] and not row["gateway"]]

    refs = [make.remote(number) for number in range(16)]
    hpc.wait(refs, num_returns=len(refs), fetch_local=False)
    print("up", alive(), flush=True)
    while len(alive()) == 2:
        time.sleep(0.1)
    values = [hpc.get(ref) for ref in refs]
    right = all((value == number).all() for number, (_, value) in enumerate(values))
    print("read", right, sorted({node for node, _ in values}), flush=True)
"""


def test_a_further_job_that_is_taken_leaves_its_values_and_the_session_goes_on(desk: SlurmDesk) -> None:
    desk.script("grows.py", GROWS)
    options = ["--partition=taken", "--grow-after=0.3s", "--shrink-after=300s", "--detach"]
    desk.launch("-N1-2", "-c2", "-t5", *options, "grows.py", check=True)
    wait_for("both nodes", lambda: "up [1, 2]" in desk.hpc("logs", "1").stdout, 60.0)
    (first,) = desk.bed.nodes_of(desk.job_id())
    (other,) = set(desk.bed.hosts) - {first}
    preempt(desk, nodes=1, where=other)
    wait_for("what was there", lambda: "read " in desk.hpc("logs", "1").stdout, 60.0)
    said = desk.hpc("logs", "1").stdout
    assert "read True ['1', '2']" in said, said
    made = (desk.folder / "made.txt").read_text().split()
    assert sorted(map(int, made)) == list(range(16)), "none was made again"

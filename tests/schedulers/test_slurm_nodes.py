"""Nodes that die, refuse or are stopped under a session on a real Slurm."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import time
from collections.abc import Iterator

import pytest
from desk import Desk, launcher
from netbed import wait_for
from slurm_bed import SlurmBed, reason_to_skip

from hpc.core.node import rundir

pytestmark = pytest.mark.slurm

TASKS = """
    import os, socket, sys, time
    import hpc
    hpc.init()

    @hpc.remote
    def where(number):
        open(f"begun-{number}-{socket.gethostname()}-{time.time()}", "w").close()
        while not os.path.exists("go"):
            time.sleep(0.05)
        return socket.gethostname()

    refs = [where.remote(number) for number in range(int(sys.argv[1]))]
    print("hosts", *sorted(hpc.get(refs)), flush=True)
"""


SAVES = """
    import signal, sys, time
    def save(*_):
        print("saved", flush=True)
        sys.exit(1)
    signal.signal(signal.SIGTERM, save)
    print("began", flush=True)
    time.sleep(300)
"""
WAITS = """
    import os, time
    print("began", flush=True)
    while not os.path.exists("go"):
        time.sleep(0.05)
"""


@pytest.fixture
def nodes(desk: Desk) -> Iterator[Desk]:
    """What killed nodes leave is swept, as the next session there would."""
    desk.script("tasks.py", TASKS)
    desk.script("waits.py", WAITS)
    yield desk
    desk.bed.cancel_all()
    rundir.sweep(os.environ["HPC_TMPDIR"])


def test_tasks_of_a_node_whose_processes_are_all_killed_are_retried_within_seconds(nodes: Desk) -> None:
    """Long before Slurm knows, and neither the retries nor the end of the session wait for it."""
    process = nodes.start(*launcher(), "-N3", "-c2", "-t5", "tasks.py", "6")
    wait_for("tasks on all nodes", lambda: len(list(nodes.folder.glob("begun-*"))) == 6, 90.0)
    time.sleep(2.5)  # a node is known to the head for some seconds
    nodes.bed.kill_node("nid0002")
    killed = time.time()
    (nodes.folder / "go").touch()
    out, err = process.communicate(timeout=90)
    (hosts,) = [line for line in out.splitlines() if line.startswith("hosts ")]
    assert process.returncode == 0 and "nid0002" not in hosts, err
    # About 3 s on a machine with nothing else to do. Slurm would know after minutes, and silence means death after one.
    again = max(float(path.name.rpartition("-")[2]) for path in nodes.folder.glob("begun-*")) - killed
    assert 0.0 < again < 30.0, again
    assert "lost: nid0002" in err


def patience(desk: Desk, dead_s: float) -> None:
    """The seconds until silence means death."""
    (desk.folder / "hpc.toml").write_text(f"[runtime]\ndead_s = {dead_s}\n")


def test_a_job_whose_first_node_fails_is_given_up_by_the_others(nodes: Desk) -> None:
    """Nobody follows it: the nodes that are left ask Slurm, once they have no head any more."""
    patience(nodes, 8)
    job_id = nodes.launch("-N3", "-t5", "--detach", "waits.py").stdout.strip()
    wait_for("the script", lambda: "began" in nodes.hpc("logs", "1").stdout, 90.0, 0.2)
    first = nodes.bed.job_field(job_id, "BatchHost")
    nodes.bed.kill_node(first)
    nodes.bed.fail_node(first)
    try:
        nodes.bed.wait_job(job_id, ["CANCELLED"], 50.0)
    finally:
        nodes.bed.mend_node(first)
    back = nodes.hpc("attach", "1")
    assert back.returncode == 123
    assert f"its first node, {first}, where its script ran, has failed" in back.stderr
    (row,) = json.loads(nodes.hpc("ps", "--json").stdout)
    assert (row["state"], row["exit_code"]) == ("ended", 123)


def test_a_follower_gives_up_a_job_whose_first_node_fails(nodes: Desk) -> None:
    process = nodes.start(*launcher(), "-N2", "-t5", "waits.py")
    assert process.stdout is not None and process.stdout.readline() == "began\n"
    job_id = json.loads((nodes.jobs / "1" / "job.json").read_text())["scheduler_id"]
    first = nodes.bed.job_field(job_id, "BatchHost")
    nodes.bed.kill_node(first)
    nodes.bed.fail_node(first)
    try:
        _, err = process.communicate(timeout=90)
    finally:
        nodes.bed.mend_node(first)
    assert process.returncode == 123 and f"its first node, {first}" in err
    assert nodes.bed.job_field(job_id, "JobState") == "CANCELLED"


def test_a_job_that_is_suspended_for_longer_than_silence_means_death_goes_on(nodes: Desk) -> None:
    patience(nodes, 8)
    process = nodes.start(*launcher(), "-N2", "-c2", "-t5", "tasks.py", "4")
    wait_for("tasks on both nodes", lambda: len(list(nodes.folder.glob("begun-*"))) == 4, 90.0)
    job_id = json.loads((nodes.jobs / "1" / "job.json").read_text())["scheduler_id"]
    nodes.run("scontrol", "suspend", job_id, check=True)
    time.sleep(11)
    (row,) = json.loads(nodes.hpc("ps", "--json").stdout)
    nodes.run("scontrol", "resume", job_id, check=True)
    (nodes.folder / "go").touch()
    out, err = process.communicate(timeout=90)
    assert row["state"] == "suspended"
    assert process.returncode == 0 and "hosts nid0001 nid0001 nid0002 nid0002" in out, err
    assert re.search(r"suspended \d+  Slurm has stopped it for a while", err) and "lost" not in err


def test_a_job_that_is_put_back_into_the_queue_goes_on_and_keeps_its_first_output(nodes: Desk) -> None:
    process = nodes.start(*launcher(), "-N2", "-t5", "--submit-arg=--requeue", "waits.py")
    assert process.stdout is not None and process.stdout.readline() == "began\n"
    job_id = json.loads((nodes.jobs / "1" / "job.json").read_text())["scheduler_id"]
    nodes.run("scontrol", "requeue", job_id, check=True)
    nodes.bed.wait_job(job_id, ["PENDING"])
    (nodes.folder / "go").touch()
    wait_for("the end of the first run", lambda: "ended" in (nodes.jobs / "1" / "status.json").read_text(), 90.0)
    (row,) = json.loads(nodes.hpc("ps", "--json").stdout)
    assert (row["state"], row["reason"], row["exit_code"]) == ("queued", "BeginTime", None)
    # Not at once: nodes refuse a launch in the second in which the first run was ended. Slurm waits for two minutes.
    nodes.run("scontrol", "update", f"jobid={job_id}", "StartTime=now+3", check=True)
    out, err = process.communicate(timeout=90)
    assert process.returncode == 0 and "began" in out, err
    assert "queued" in err.partition("running")[2] and "ended     ok" in err
    assert (nodes.jobs / "1" / "driver.log").read_text().count("began") == 2
    (row,) = json.loads(nodes.hpc("ps", "--json").stdout)
    assert (row["state"], row["exit_code"]) == ("ended", 0)


def test_a_job_cancelled_while_it_starts_was_cancelled_before_it_started(nodes: Desk) -> None:
    process = nodes.start(*launcher(), "-N4", "-t5", "waits.py")
    status = nodes.jobs / "1" / "status.json"
    wait_for("nodes that start", lambda: status.exists() and '"starting"' in status.read_text(), 90.0, 0.002)
    job_id = json.loads((nodes.jobs / "1" / "job.json").read_text())["scheduler_id"]
    nodes.run("scancel", job_id, check=True)
    out, _ = process.communicate(timeout=90)
    assert process.returncode == (128 + signal.SIGTERM if "began" in out else 121)
    (row,) = json.loads(nodes.hpc("ps", "--json").stdout)
    assert (row["state"], row["exit_code"]) == ("ended", process.returncode)


def test_a_node_that_refuses_the_step_is_named_and_left_out() -> None:
    """srun ends what it has started on the others, where it is started again."""
    why = reason_to_skip()
    if why:
        pytest.skip(why)
    with SlurmBed(nodes=3, slurmd_timeout_s=100) as bed:
        desk = Desk(bed, bed.scratch / "work", {"HPC_JOB_DIR": str(bed.scratch / "jobs")})
        desk.script("tasks.py", TASKS)
        waiting = "touch granted; while [ ! -e go ]; do sleep 0.05; done"
        command = f"{waiting}; exec {shlex.join(launcher())} --min-nodes=2 tasks.py 2"
        process = desk.start("salloc", "-Q", "-N3", "-c2", "-t5", "bash", "-c", command)
        wait_for("the allocation", (desk.folder / "granted").exists, 90.0)
        (slurmd,) = [one for one in bed.net.daemons if "nid0002" in one.args]
        slurmd.kill()
        slurmd.wait()
        bed.net.daemons.remove(slurmd)
        (desk.folder / "go").touch()
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0 and out.startswith("hosts nid000"), err
        assert re.search(r"hpc: nid0002: srun: error: Task launch .* failed on node nid0002: .*; starting again", err)
        assert "running   2 nodes" in err
        bed.start_slurmd("nid0002")


def test_an_allocation_that_is_taken_away_is_said_to_have_been_cancelled(nodes: Desk) -> None:
    nodes.script("saves.py", SAVES)
    process = nodes.start("salloc", "-Q", "-N2", "-c2", "-t5", *launcher(), "saves.py")
    assert process.stdout is not None and process.stdout.readline() == "began\n"
    (job_id,) = nodes.bed.jobs()
    nodes.run("scancel", job_id, check=True)
    out, err = process.communicate(timeout=90)
    assert process.returncode == 123 and out == "saved\n"  # a script that does not ask the session is told by SIGTERM
    assert "SIGTERM to the nodes" in err and f"Slurm: job {job_id} was cancelled (CANCELLED)" in err

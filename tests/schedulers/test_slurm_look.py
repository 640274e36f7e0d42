"""Looking into a job of a real Slurm from the login node: its session while it runs, its failed workers' logs after."""

from __future__ import annotations

import json
import subprocess

import pytest
from desk import Desk
from netbed import wait_for

pytestmark = pytest.mark.slurm

SCRIPT = """
    import os, sys, time
    import hpc
    hpc.init()

    @hpc.remote(max_retries=0)
    def crash():
        print("its last words", flush=True)
        os._exit(9)

    @hpc.remote
    def says():
        context = hpc.get_runtime_context()
        print("said on", os.uname().nodename, flush=True)
        return context.get_scheduler(), context.get_scheduler_job_id(), context.time_left_s()

    print("facts", *hpc.get(says.remote()), flush=True)
    try:
        hpc.get(crash.remote())
    except hpc.exceptions.WorkerCrashedError:
        print("crashed", flush=True)
    while not os.path.exists("go"):
        time.sleep(0.05)
"""


def test_a_job_that_runs_elsewhere_and_then_has_ended(desk: Desk) -> None:
    desk.script("works.py", SCRIPT)
    job_id = desk.launch("-N2", "-t5", "--detach", "works.py").stdout.strip()
    wait_for("the crash", lambda: "crashed" in desk.hpc("logs", "1").stdout, 90.0)
    facts = desk.hpc("logs", "1").stdout.partition("facts ")[2].split()
    assert facts[:2] == ["slurm", job_id] and 0 < float(facts[2]) <= 300
    (row,) = json.loads(desk.hpc("status", "1", "--json").stdout)
    session = row["session"]
    assert (session["scheduler"], session["job_id"]) == ("slurm", job_id) and 0 < session["time_left_s"] <= 300
    assert len(session["nodes"]) == 2 and session["failed_workers"] == 1
    shown = desk.hpc("logs", "1", "--failed")
    assert "its last words" in shown.stdout and "exited with code 9" in shown.stdout, shown.stderr
    (desk.folder / "go").touch()
    desk.bed.wait_job(job_id, ["COMPLETED"])
    kept = desk.hpc("logs", "1", "--failed")
    assert "its last words" in kept.stdout and "exited with code 9" in kept.stdout
    files = sorted(p.name for p in (desk.jobs / "1").iterdir())
    assert files == [
        "driver.log", "events.jsonl", "job.json", "job.sbatch", "logs.zip", "record.json", "report.html", "status.json",
    ]  # fmt: skip


def test_the_doctor_looks_at_the_login_node_and_at_the_nodes_of_a_job(desk: Desk) -> None:
    here = desk.hpc("doctor", "--json")
    rows = {row["check"]: row for row in json.loads(here.stdout)}
    assert rows["scheduler"]["level"] == "ok" and "jobs can be submitted" in rows["scheduler"]["seen"], here.stdout
    there = desk.hpc("doctor", "-N2", "-t2", "--json")
    assert there.returncode == 0, there.stdout + there.stderr
    rows = next(json.loads(line) for line in there.stdout.splitlines() if line.startswith("["))
    assert {row["node"] for row in rows if row["check"] == "cpus"} == {"nid0001", "nid0002"}
    found = {row["check"]: row for row in rows if not row["node"]}
    assert found["shared job folder"]["level"] == found["same python"]["level"] == "ok"
    assert "over 1 pairs" in found["links"]["seen"]


def test_the_node_with_the_slow_link_is_named_by_the_doctor_and_left_out_by_a_preflight(desk: Desk) -> None:
    def shape(*words: str) -> None:
        subprocess.run(desk.bed.net.inside("nid0003", ["tc", "qdisc", *words]), check=True, timeout=20)

    shape(*["add", "dev", "eth0", "root", "tbf", "rate", "80mbit", "burst", "64kb", "latency", "50ms"])
    try:
        done = desk.hpc("doctor", "-N4", "-t2", "--json")
        desk.script("ranks.py", "import os; print('rank', os.environ['RANK'], 'on', os.uname().nodename)")
        ranks = ("--preflight=exclude", "--ranks-per-node=1", "ranks.py")
        left = desk.launch("-N4", "--min-nodes=3", "-t2", *ranks)
        refused = desk.launch("-N4", "--min-nodes=4", "-t2", *ranks)
    finally:
        shape(*["del", "dev", "eth0", "root"])
    rows = next(json.loads(line) for line in done.stdout.splitlines() if line.startswith("["))
    found = [row for row in rows if row["check"] == "links"]
    assert [(row["node"], row["level"]) for row in found] == [("nid0003", "warn")], found
    assert "at best, other nodes" in found[0]["seen"]
    assert left.returncode == 0 and "preflight: nid0003: links: " in left.stderr + left.stdout, left
    places = sorted(line.partition("] ")[2] for line in left.stdout.splitlines() if "] rank " in line)
    assert places == [f"rank {rank} on {host}" for rank, host in enumerate(("nid0001", "nid0002", "nid0004"))]
    assert refused.returncode == 122 and "without nid0003 there are 3 nodes" in refused.stderr + refused.stdout

"""Sessions that grow by further jobs and shrink again, on a real Slurm; and no job stays, however the session ends."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from desk import Desk
from netbed import process_name, wait_for

pytestmark = pytest.mark.slurm

#: Tasks that may run once only, and wait until all nodes have come. Then it waits until the session is as small as
#: before.
WORK = """
    import glob, json, os, time
    import hpc
    from hpc.state import gather

    hpc.init()

    @hpc.remote(max_retries=0)
    def one(i):
        open(f"begun-{i}", "w").close()
        while not os.path.exists("all"):
            time.sleep(0.05)
        return i, hpc.get_runtime_context().get_node_id()

    def alive():
        return [row["node"] for row in gather.node_rows() if row["alive"] and not row["gateway"]]

    def until(check):
        end = time.monotonic() + 60
        while not check():
            assert time.monotonic() < end, "not within the time"
            time.sleep(0.1)

    before = alive()
    refs = [one.remote(i) for i in range(150)]
    until(lambda: len(alive()) == 4 and len(glob.glob("begun-*")) == hpc.cluster_resources()["CPU"])
    open("all", "w").close()
    values = hpc.get(refs)
    until(lambda: len(alive()) == 2)
    assert hpc.get(one.remote(7))[0] == 7
    right = [i for i, _ in values] == list(range(150))
    print(json.dumps({"before": before, "after": alive(), "right": right, "on": sorted({n for _, n in values})}))
"""

#: Work for more nodes than there will be.
WAITS = """
    import time
    import hpc
    hpc.init()
    hpc.get([hpc.remote(time.sleep).remote(300) for _ in range(20)])
"""


@pytest.fixture
def phases(desk: Desk) -> Callable[[], dict[str, str]]:
    """All jobs that Slurm knows of this test, and where they are."""
    first = int(desk.run("sbatch", "--parsable", "-o", "/dev/null", "--wrap", "true", check=True).stdout.strip())

    def ask() -> dict[str, str]:
        rows = desk.run("squeue", "-h", "--states=all", "-o", "%i %T").stdout.split("\n")
        jobs = dict(row.split() for row in rows if row)
        return {job: state for job, state in jobs.items() if int(job) > first}

    return ask


def over(phases: dict[str, str]) -> bool:
    return not {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING"} & set(phases.values())


def test_a_session_grows_under_load_and_shrinks_again_with_no_task_lost(
    desk: Desk, phases: Callable[[], dict[str, str]]
) -> None:
    desk.script("work.py", WORK)
    done = desk.launch("-N2-4", "-t5", "--grow-after=0.5s", "--shrink-after=2s", "work.py", timeout_s=120.0)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.strip().splitlines()[-1])
    assert said["right"] and said["before"] == said["after"] == [1, 2] and said["on"] == ["1", "2", "3", "4"]
    wait_for("the end of all jobs", lambda: over(phases()), 90.0)
    assert list(phases().values()) == ["COMPLETED"] * 3
    folder = desk.jobs / "1"
    assert [path.read_text() for path in sorted(folder.glob("further-*.log"))] == ["", ""]
    assert not (folder / "join-further").exists() and json.loads((folder / "further.json").read_text())["ids"] == []


def busy(desk: Desk, phases: Callable[[], dict[str, str]]) -> None:
    """A session with one further job that runs and one that waits in the queue, while another user has two nodes."""
    desk.run(
        "sbatch", "-N2", "--exclusive", "-t5", "-o", "/dev/null", "-J", "blocker", "--wrap", "sleep 300", check=True
    )
    wait_for("the blocker to run", lambda: list(phases().values()) == ["RUNNING"], 90.0)
    desk.script("waits.py", WAITS)
    desk.launch("-N1-3", "-t5", "-c2", "--grow-after=0.3s", "--detach", "waits.py", check=True)
    states = ["PENDING", "RUNNING", "RUNNING", "RUNNING"]
    wait_for("a job that runs and one that waits", lambda: sorted(phases().values()) == states, 90.0)
    desk.wait_status("what is asked for to be said", lambda said: "1 node asked for (job" in said["text"])


def end_blocker(desk: Desk) -> None:
    desk.run("scancel", "--name=blocker", check=True)


def test_when_the_session_is_cancelled_no_further_job_stays(desk: Desk, phases: Callable[[], dict[str, str]]) -> None:
    busy(desk, phases)
    said = "grows       1 to 3 nodes, 1 more asked for: work waits for"
    wait_for("the session to say so", lambda: said in desk.hpc("status", "1").stdout, 90.0, 0.2)
    desk.hpc("cancel", "1", check=True)
    end_blocker(desk)
    wait_for("the end of all jobs", lambda: over(phases()), 90.0)


def test_when_the_session_is_killed_further_jobs_end_by_themselves(
    desk: Desk, phases: Callable[[], dict[str, str]]
) -> None:
    busy(desk, phases)
    pid = desk.status()["pid"]
    assert process_name(pid).startswith("hpc")
    os.kill(pid, signal.SIGKILL)
    wait_for("the end of those that run", lambda: list(phases().values()).count("RUNNING") <= 1, 90.0)
    end_blocker(desk)  # and the one that waited starts
    wait_for("the end of all jobs", lambda: over(phases()), 90.0)
    logs = [Path(path).read_text() for path in (desk.jobs / "1").glob("further-*.log")]
    assert any("the session that this job was for is over" in log for log in logs), logs

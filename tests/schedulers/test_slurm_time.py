"""A time limit that is changed while the job runs, on a real Slurm."""

from __future__ import annotations

import json

import pytest
from desk import Desk
from netbed import wait_for

pytestmark = pytest.mark.slurm

SCRIPT = """
    import sys, time
    import hpc
    hpc.init()

    @hpc.remote(scheduling_strategy="SPREAD")
    def left():
        return hpc.get_runtime_context().time_left_s()

    until = time.monotonic() + float(sys.argv[1])
    while time.monotonic() < until:
        seen = [hpc.get_runtime_context().time_left_s(), *hpc.get([left.remote(), left.remote()])]
        print("left", *(round(each) for each in seen))
        time.sleep(1)
"""


def test_limits_that_are_extended_and_shortened(desk: Desk) -> None:
    """Two jobs at a time: one outlives its first limit, the other is asked to end before its new one."""
    desk.script("works.py", SCRIPT)
    # Slurm's limits are whole minutes.
    longer = desk.launch("-N2", "-c2", "-t1", "--time-poll=2", "--detach", "works.py", "66").stdout.strip()
    shorter = desk.launch("-N2", "-c2", "-t5", "--time-poll=2", "--detach", "works.py", "600").stdout.strip()

    def lefts(number: int) -> list[list[float]]:
        lines = desk.hpc("logs", str(number)).stdout.splitlines()
        return [[float(x) for x in line.split()[1:]] for line in lines if line.startswith("left")]

    wait_for("both to run", lambda: lefts(1) and lefts(2), 90.0)
    assert max(lefts(1)[0]) <= 60 and min(lefts(2)[0]) > 200
    desk.run("scontrol", "update", f"jobid={longer}", "timelimit=4", check=True)
    desk.run("scontrol", "update", f"jobid={shorter}", "timelimit=1", check=True)
    wait_for("the limits to be seen", lambda: min(lefts(1)[-1]) > 150 and max(lefts(2)[-1]) <= 60, 90.0)
    rows = {int(row["job"]): row for row in json.loads(desk.hpc("ps", "--json").stdout)}
    assert rows[1]["left_s"] > 150 and rows[2]["left_s"] <= 60
    asked = desk.hpc("attach", "2", timeout_s=90.0)
    assert asked.returncode == 124 and "WALLTIME" in asked.stdout, asked.stderr
    page, ran = desk.page(2), 2 * len(lefts(2))
    assert "Its time was over" in page and desk.report(2)["ending"]["cause"] == "walltime"
    (left,) = desk.report(2)["named"]
    assert left["name"] == "left" and ran <= left["count"] + left["failed"] <= ran + 2
    whole = desk.hpc("attach", "1", timeout_s=60.0)
    assert whole.returncode == 0, whole.stderr
    assert "The script ended by itself" in desk.page(1) and desk.report(1)["ending"]["code"] == 0
    assert len(lefts(1)) > 20 and max(lefts(1)[-1]) < 200

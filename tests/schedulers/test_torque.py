"""What is true of Torque's dialect alone, on Slurm's wrappers: nodes that differ, and a task that cannot be started."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from desk import Desk, launcher, nothing_left
from netbed import wait_for
from programs import HOSTS, PLAIN
from torque_bed import TorqueBed

pytestmark = pytest.mark.scheduler


@pytest.fixture
def desk(torque_whole: TorqueBed, request: pytest.FixtureRequest) -> Iterator[Desk]:
    found = Desk.at(torque_whole, request.node.name)
    for name, text in (("hosts.py", HOSTS), ("plain.py", PLAIN)):
        found.script(name, text)
    yield found
    torque_whole.cancel_all()


def test_each_node_offers_the_processors_that_the_node_file_has_for_it(desk: Desk) -> None:
    desk.script("shape.py", """
        import hpc
        hpc.init()
        print("shape", [(n["NodeManagerHostname"], n["Resources"]["CPU"]) for n in hpc.nodes()])
    """)  # fmt: skip
    script = desk.script("own.sh", f"#!/bin/bash -l\ncd {desk.folder}\nexec {launcher()[0]} shape.py\n")
    out = desk.folder / "out"
    # What `nodes=1:ppn=2+1:ppn=1` means to Torque; the wrapper cannot say that to Slurm.
    job = desk.run("sbatch", "--parsable", "-N2", "-n3", "-t5", "-o", str(out), script, check=True).stdout.strip()
    wait_for("its end", lambda: desk.bed.phase(job) == "ended", 90.0, 0.1)
    first, second = desk.bed.hosts[:2]
    assert f"shape [('{first}', 2.0), ('{second}', 1.0)]" in out.read_text(), out.read_text()


def test_a_node_that_cannot_run_python_is_named(desk: Desk) -> None:
    done = desk.launch("-N3", "-t5", "--start-timeout=20", "--step-arg=/nowhere/wrapper", "plain.py")
    assert done.returncode == 122
    assert "nid0002" in done.stdout and "nid0003" in done.stdout and "its task ended with" in done.stdout
    nothing_left(desk)


def test_a_job_is_shown_with_the_wrappers_words(desk: Desk) -> None:
    done = desk.launch("-N2", "-c2", "-t5", "--detach", "hosts.py", "2")
    assert done.returncode == 0, done.stderr
    assert json.loads(desk.hpc("ps", "--json").stdout)[0]["scheduler_id"] == done.stdout.strip()
    assert desk.hpc("attach", "last").returncode == 0

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
    shape = "nodes=2,ncpus=1,walltime=00:05:00"  # of five processors, one node gets fewer than the others
    job = desk.run("qsub", "-l", shape.replace("nodes=2", "nodes=1:ppn=3+1"), "-j", "oe", "-o", str(out), script)
    job_id = job.stdout.strip()
    wait_for("its end", lambda: desk.bed.phase(job_id) == "ended", 40.0, 0.1)
    assert out.read_text().startswith("shape"), out.read_text()


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

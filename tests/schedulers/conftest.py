"""The real schedulers of this test run, each made once and only if it is used, and for each test a clean folder."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pbs_bed
import pytest
import slurm_bed
import torque_bed
import yarn_bed
from bed import Bed
from desk import SlurmDesk

#: The schedulers that keep the promises; the fixture of a bed is called NAME_whole.
SCHEDULERS = ("slurm", "pbs", "torque", "yarn")


@pytest.fixture(scope="session")
def slurm_whole() -> Iterator[slurm_bed.SlurmBed]:
    """Four nodes with two CPUs each; skipped, with the reason, where there can be none."""
    why = slurm_bed.reason_to_skip()
    if why:
        pytest.skip(why)
    with slurm_bed.SlurmBed(nodes=4) as bed:
        yield bed


@pytest.fixture(scope="session")
def yarn_whole() -> Iterator[yarn_bed.YarnBed]:
    """Four nodes with two CPUs each; skipped, with the reason, where there can be none."""
    why = yarn_bed.reason_to_skip()
    if why:
        pytest.skip(why)
    with yarn_bed.YarnBed(nodes=4, cpus=2, mem_mb=2048) as bed:
        yield bed


@pytest.fixture(scope="session")
def pbs_whole() -> Iterator[pbs_bed.PbsBed]:
    """Four nodes with two CPUs each; skipped, with the reason, where there can be none."""
    why = pbs_bed.reason_to_skip()
    if why:
        pytest.skip(why)
    with pbs_bed.PbsBed() as bed:
        yield bed


@pytest.fixture(scope="session")
def torque_whole() -> Iterator[torque_bed.TorqueBed]:
    """Four nodes with two CPUs each; skipped, with the reason, where there can be none."""
    why = torque_bed.reason_to_skip()
    if why:
        pytest.skip(why)
    with torque_bed.TorqueBed(nodes=4) as bed:
        yield bed


@pytest.fixture
def desk(slurm_whole: slurm_bed.SlurmBed, request: pytest.FixtureRequest) -> Iterator[SlurmDesk]:
    """At the Slurm."""
    yield SlurmDesk.at(slurm_whole, request.node.name)
    slurm_whole.cancel_all()


@pytest.fixture(scope="session", params=SCHEDULERS)
def any_bed(request: pytest.FixtureRequest) -> Bed:
    """One scheduler after the other."""
    return request.getfixturevalue(f"{request.param}_whole")


@pytest.fixture(autouse=True, scope="module")
def no_leaks_of_module() -> None:
    """Look for no leaks: beds are made in the middle of a module and live on; each test and the run's end do look."""


@pytest.fixture(autouse=True, scope="session")
def no_site_scheduler() -> None:
    """A real job around the tests must not be taken for ours."""
    for name in [n for n in os.environ if n.startswith(("SLURM_", "SBATCH_", "PBS_JOB", "PBS_NODE"))]:
        del os.environ[name]

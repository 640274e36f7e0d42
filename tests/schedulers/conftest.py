"""The real Slurm of this test run, made once, and a clean folder and an empty queue for each test."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from desk import Desk
from slurm_bed import SlurmBed, reason_to_skip


@pytest.fixture(scope="session")
def whole_bed() -> Iterator[SlurmBed]:
    """Four nodes with two CPUs each; skipped, with the reason, where there can be none."""
    why = reason_to_skip()
    if why:
        pytest.skip(why)
    with SlurmBed(nodes=4) as bed:
        yield bed


@pytest.fixture
def desk(whole_bed: SlurmBed, request: pytest.FixtureRequest) -> Iterator[Desk]:
    folder = whole_bed.scratch / "work" / request.node.name.replace("/", "_")[:60]
    folder.mkdir()
    folder.chmod(0o777)
    env = {"HPC_JOB_DIR": str(folder / "jobs"), "HPC_POLL_INTERVAL": "0.3", "XDG_CONFIG_HOME": str(folder / "config")}
    env["PATH"] = f"{Path(sys.executable).parent}:{whole_bed.env['PATH']}"
    yield Desk(whole_bed, folder, env)
    whole_bed.cancel_all()


@pytest.fixture(autouse=True, scope="session")
def no_site_slurm() -> None:
    """A real Slurm job around the tests must not be taken for ours."""
    for name in [n for n in os.environ if n.startswith(("SLURM_", "SBATCH_"))]:
        del os.environ[name]

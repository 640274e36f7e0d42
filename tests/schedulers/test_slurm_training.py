"""Training on a real Slurm: a run that is longer than its jobs."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
from desk import Desk, launcher
from netbed import wait_for

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
STEPS = 60

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs PyTorch: pip install 'hpc[train]'"),
]


def outcome(text: str) -> tuple[int, float]:
    """How many steps were reported, and the sum of the weights."""
    found = re.search(r"^steps (\d+) loss \S+ sum (\S+)$", text, re.MULTILINE)
    assert found, text
    return int(found[1]), float(found[2])


@pytest.mark.timeout(420)
def test_sharded_training_through_a_chain_of_jobs_has_the_weights_of_a_run_without_a_break(desk: Desk) -> None:
    program = [str(EXAMPLES / "train_transformer.py"), "--steps", str(STEPS), "--every", "50", "--ranks", "4"]
    done = desk.launch(
        *("-N4", "-c1", "-t1", "--chain=8", "--drain=38s"),
        *(*program, "--pace", "0.6", "--storage", str(desk.folder / "results")),
        timeout_s=300.0,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    began = [int(step) for step in re.findall(r"goes on from step (\d+)", done.stdout)]
    # Two seams or more, and not at a multiple of --every: the run has saved just in time.
    assert len(began) >= 2 and began == sorted(set(began)) and any(step % 50 for step in began), done.stdout
    steps, total = outcome(done.stdout)
    assert steps == STEPS, "no step is lost, and none is done twice"
    whole = desk.launch("-N4", "-c1", "-t2", *program, "--storage", str(desk.folder / "whole"), timeout_s=100.0)
    assert whole.returncode == 0, whole.stderr + whole.stdout
    assert total == pytest.approx(outcome(whole.stdout)[1], abs=1e-9)


def test_a_run_goes_on_with_fewer_ranks_when_a_node_is_lost_and_with_more_when_one_has_come(desk: Desk) -> None:
    """The session replaces the lost node by a further job of one node."""
    results = desk.folder / "results"
    steps = ["--batch", "10", "--pace", "0.2", "--look", "1"]
    command = [str(EXAMPLES / "train_elastic.py"), "--least", "2", *steps, "--storage", str(results)]
    process = desk.start(*launcher(), "-N3-4", "--grow-after", "1s", "-c1", "-t3", *command)
    wait_for("a checkpoint", lambda: any(results.glob("*/checkpoint_*")), 60.0)
    host = desk.bed.nodes_of(desk.job_id())[2]
    desk.bed.crash(host)
    try:
        out, err = process.communicate(timeout=120)
    finally:
        desk.bed.repair(host)
        desk.sweep()
    assert process.returncode == 0, err + out
    # Each came three times in all, with three ranks or with two.
    assert "ranks [3, 2, 3] each sample seen 3 to 3 times" in out, out


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs JAX: pip install 'hpc[jax]'")
def test_ranks_of_several_nodes_are_one_program_of_jax(desk: Desk) -> None:
    done = desk.launch("-N2", "-c1", "-t2", str(EXAMPLES / "train_jax.py"), "--steps", "100", timeout_s=100.0)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "2 ranks, 2 devices, loss" in done.stdout


@pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="needs scikit-learn: pip install 'hpc[demo]'")
def test_digits_are_learnt_by_a_rank_on_each_node(desk: Desk) -> None:
    done = desk.launch("-N4", "-c1", "-t2", str(EXAMPLES / "train_digits.py"), timeout_s=100.0)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "ok nodes=4 world=4" in done.stdout


def test_a_plain_script_of_torchrun_runs_unchanged(desk: Desk) -> None:
    program = str(EXAMPLES / "train_ddp.py")
    done = desk.launch("-N2", "-c1", "-t2", "--ranks-per-node", "2", program, timeout_s=100.0)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "world=4" in done.stdout and "equal weights: True" in done.stdout


@pytest.mark.skipif(importlib.util.find_spec("mpi4py") is None, reason="needs mpi4py: pip install 'hpc[mpi]'")
def test_ranks_of_mpi_run_beside_tasks(desk: Desk) -> None:
    done = desk.launch("-N2", "-c2", "-t2", str(EXAMPLES / "mpi_heat.py"), timeout_s=100.0)
    assert done.returncode == 0, done.stderr + done.stdout

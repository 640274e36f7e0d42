"""Training on a real Slurm: a run that is longer than its jobs."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
from desk import Desk
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


def test_a_run_goes_on_with_fewer_ranks_when_a_node_is_lost(desk: Desk) -> None:
    command = [
        "-N3",
        "-c1",
        "-t3",
        str(EXAMPLES / "train_elastic.py"),
        "--least",
        "2",
        "--pace",
        "0.1",
        "--epochs",
        "3",
    ]
    job = desk.launch("--detach", *command, "--storage", str(desk.folder / "results")).stdout.strip()
    checkpoints = desk.folder / "results"
    wait_for("a checkpoint", lambda: any(checkpoints.glob("*/checkpoint_*")), 60.0)
    desk.bed.crash("nid0003")
    try:
        wait_for("the end", lambda: desk.bed.phase(job) == "ended", 120.0, 0.2)
    finally:
        desk.bed.repair("nid0003")
        desk.sweep()
    said = (desk.jobs / job / "driver.log").read_text()
    # 60 samples in a step of three ranks, 40 in one of two: each came three times in all.
    assert "ranks [3, 2] each sample seen 3 to 3 times" in said, said

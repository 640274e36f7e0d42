"""Searches on a real Slurm: one that is longer than its jobs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from desk import Desk

PROGRAM = str(Path(__file__).resolve().parents[2] / "examples" / "tune_chain.py")
TRIALS, STEPS = 16, 8

pytestmark = [pytest.mark.slurm]


def outcome(text: str) -> tuple[int, float, int, int]:
    """How many trials are complete, the sum of their losses, steps done twice in all, and those of one trial."""
    found = re.search(r"^(\d+) of \d+ trials are complete, sum of losses (\S+)$", text, re.MULTILINE)
    twice = re.search(r"done twice: (\d+), at most (\d+) of a trial$", text, re.MULTILINE)
    assert found and twice, text
    return int(found[1]), float(found[2]), int(twice[1]), int(twice[2])


@pytest.mark.timeout(240)
def test_a_search_through_a_chain_of_jobs_has_the_results_of_one_job(desk: Desk) -> None:
    program = [PROGRAM, "--trials", str(TRIALS), "--steps", str(STEPS), "--storage"]
    done = desk.launch(
        *("-N4", "-c1", "-t1", "--chain=8", "--drain=50s"),
        *(*program, str(desk.folder / "results"), "--pace", "0.6"),
        timeout_s=200.0,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    # Two seams or more: in each a job ended before the search was complete.
    assert done.stderr.count("exit code 75") >= 2, done.stderr
    complete, total, _, most = outcome(done.stdout)
    assert complete == TRIALS and most <= 1, done.stdout
    whole = desk.launch("-N4", "-c1", "-t1", *program, str(desk.folder / "whole"), "--pace", "0", timeout_s=100.0)
    assert whole.returncode == 0, whole.stderr + whole.stdout
    assert outcome(whole.stdout) == (TRIALS, total, 0, 0)

"""The programs of examples/ that search, shortened: each is run as its user runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def run(tmp_path):
    """Run an example with its results in a folder of its own; what it printed."""

    def run(name: str, *options: object) -> str:
        command = [sys.executable, str(EXAMPLES / name), "--storage", str(tmp_path), *map(str, options)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_optuna_and_asha_find_a_good_network(run):
    for package in ("sklearn", "optuna"):
        pytest.importorskip(package)
    out = run("tune_digits.py", "--trials", 3, "--epochs", 2)
    assert re.search(r"best of 3: accuracy 0\.\d+ with {.*}; 0 stopped early", out), out
    again = run("tune_digits.py", "--trials", 3, "--epochs", 2)
    assert again.splitlines()[-1] == out.splitlines()[-1], "it is complete: nothing is run again"


def test_a_population_changes_its_learning_rates(run):
    pytest.importorskip("sklearn")
    out = run("tune_pbt.py", "--population", 4, "--epochs", 8, "--interval", 2)
    found = re.search(r"^accuracy (0\.\d+) to 0\.\d+; (\d) of 4 have changed their learning rate", out, re.MULTILINE)
    assert found is not None, out
    assert int(found[2]) >= 1, out


def test_trials_of_several_ranks_have_room_one_after_the_other(run):
    pytest.importorskip("torch")
    out = run("tune_train.py", "--trials", 2, "--epochs", 3)
    assert re.search(r"best of 2: loss 0\.\d+ with lr 0\.\d+; \d stopped early, 0 failed", out), out


def test_a_search_that_is_made_for_a_chain_of_jobs_needs_no_chain(run):
    out = run("tune_chain.py", "--trials", 4, "--steps", 3, "--pace", 0)
    assert "4 of 4 trials are complete" in out and "done twice: 0, at most 0 of a trial" in out

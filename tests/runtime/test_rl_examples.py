"""The programs of examples/ that learn by reinforcement, shortened: each is run as its user runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

for package in ("torch", "gymnasium"):
    pytest.importorskip(package)

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(name: str, *options: object) -> str:
    """What an example prints."""
    command = [sys.executable, str(EXAMPLES / name), *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_cartpole_reaches_its_goal():
    out = run("rl_cartpole.py", "--goal", 60, "--steps", 20_000)
    assert re.search(r"^PPO: return \d+ after \d+ steps$", out, re.MULTILINE), out


def test_runners_learn_beside_replay():
    assert "APEX: return" in run("rl_cartpole.py", "--algo", "APEX", "--steps", 3000)


def test_what_an_lstm_has_learnt_acts_out_of_its_checkpoint():
    found = re.search(r"by the checkpoint alone: return (\d+)", run("rl_memory.py", "--steps", 2000))
    assert found is not None and int(found[1]) >= 8, found


def test_one_agent_finds_what_beats_the_rule_of_the_other():
    assert "player1 has found what beats rock" in run("rl_agents.py", "--rule", "--iterations", 15)


def test_no_action_is_taken_that_is_masked():
    assert "none of them off the board" in run("rl_masks.py", "--iterations", 2)


def test_impala_goes_on_from_what_it_has_saved(tmp_path):
    first = run("rl_impala.py", "--runners", 1, "--steps", 2000, "--storage", tmp_path)
    assert "1 runners: reached its end" in first
    again = run("rl_impala.py", "--runners", 1, "--steps", 2000, "--storage", tmp_path)
    assert "reached its end" in again


def test_a_search_finds_the_best_of_its_trials(tmp_path):
    out = run("rl_tune.py", "--trials", 2, "--iterations", 2, "--storage", tmp_path)
    assert re.search(r"best of 2: return \d+ with {.*}; \d ended early", out), out


def test_pong_is_played():
    for package in ("ale_py", "cv2"):
        pytest.importorskip(package)
    assert re.search(
        r"\d+ steps, \d+ per second: return -?\d+", run("rl_pong.py", "--steps", 200, "--envs", 1, "--runners", 1)
    )

"""Scripts that are written for RLlib run here with nothing changed but the name in their import lines."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

for package in ("torch", "gymnasium"):
    pytest.importorskip(package)

SCRIPTS = Path(__file__).resolve().parents[1] / "rllib" / "scripts"
IMPORT = re.compile(r"^(\s*(?:import|from)\s+)ray\b", re.MULTILINE)


@pytest.fixture
def run(tmp_path):
    """Run a script of RLlib's under this package, as a test of its own; what it printed."""

    def run(name: str, *options: object) -> str:
        script = tmp_path / name
        script.write_text(IMPORT.sub(r"\1hpc", (SCRIPTS / name).read_text()))
        command = [sys.executable, str(script), "--as-test", "--num-cpus=4", *map(str, options)]
        env = {**os.environ, "HOME": str(tmp_path)}  # results go there
        done = subprocess.run(command, capture_output=True, text=True, timeout=150, cwd=tmp_path, env=env)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_ppo_learns_with_two_runners_in_a_trial(run):
    assert "`env_runners/episode_return_mean` of 30.0 reached! ok" in run("cartpole_ppo.py", "--stop-reward=30")


def test_ppo_of_two_agents(run):
    assert "of 50.0 reached! ok" in run("cartpole_ppo.py", "--stop-reward=50", "--num-agents=2")


def test_dqn_is_stopped_by_its_evaluation(run):
    out = run("cartpole_dqn.py", "--stop-reward=9")
    assert "`evaluation/env_runners/episode_return_mean` of 9.0 reached! ok" in out


def test_sac_with_initializers_of_its_own(run):
    out = run("pendulum_sac.py", "--stop-reward=-1900", "--stop-timesteps=1000")
    assert "`env_runners/episode_return_mean` of -1900.0 reached! ok" in out

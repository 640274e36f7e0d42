"""The programs of examples/ that serve, shortened: each is run as its user runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("httptools", reason="needs pip install 'hpc[serve]'")
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(name: str, *options: object) -> str:
    """What the example printed."""
    command = [sys.executable, str(EXAMPLES / name), *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_ingress_asks_two_models_at_once() -> None:
    assert "{'longest': 'filesystem', 'mood': 1}" in run("serve_composition.py")


def test_a_bad_canary_is_rolled_back_and_a_good_one_promoted() -> None:
    out = run("serve_canary.py", "--requests", 200)
    assert "v1 alone: {'v1': 20}" in out and "after that: {'v1': 20}" in out and "promoted: {'v3': 20}" in out, out
    share = re.search(r"v3 has (\d+)% of 200 users", out)
    assert share and 2 <= int(share[1]) <= 25, out


def test_pictures_are_predicted_in_batches() -> None:
    pytest.importorskip("sklearn")
    found = re.search(r"(\d+) of 128 right, in (\d+) batches of up to (\d+)", run("serve_digits.py", "--requests", 128))
    assert found and int(found[1]) > 110 and int(found[2]) < 64 and int(found[3]) > 1


def test_a_chat_on_the_toy_model_streams_its_tokens() -> None:
    assert "\n12 tokens\n" in run("serve_chat.py", "--tokens", 12)

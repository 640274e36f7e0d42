"""Each public name of RLlib's is here, with its parameters and defaults, or stands in docs/ray_rllib_names.py."""

from __future__ import annotations

import subprocess
import sys

import pytest

from compat.library_names import LibraryNames
from compat.test_public_names import DOCS

for package in ("torch", "gymnasium"):
    pytest.importorskip(package)

NAMES = LibraryNames("rllib")


def test_each_name_is_here_or_has_its_reason_why_not() -> None:
    assert NAMES.unexplained() == []


def test_a_name_that_is_said_to_be_missing_is_missing() -> None:
    assert NAMES.needless() == []


def test_each_takes_the_parameters_that_it_takes_under_ray() -> None:
    assert [*NAMES.lost_parameters()] == []
    assert NAMES.needless_parameters() == []


def test_each_default_is_that_of_ray() -> None:
    assert [*NAMES.other_defaults()] == []


def test_the_table_in_the_page_is_what_the_code_says() -> None:
    command = [sys.executable, str(DOCS / "generate_rllib.py"), "--check"]
    assert subprocess.run(command, timeout=60).returncode == 0, "make docs"


@pytest.mark.parametrize(
    "name", ["ray.rllib.env.single_agent_episode.SingleAgentEpisode", "ray.rllib.core.learner.learner.Learner"]
)
def test_what_is_compared_is_recorded(name: str) -> None:
    assert NAMES.recorded[name]["takes"] and NAMES.signature(name)

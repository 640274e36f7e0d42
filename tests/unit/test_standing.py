"""What is told of a job and of nodes that are missing follows from values, not from what the texts beside them say."""

from __future__ import annotations

import pytest

from hpc.launch.status_line import shown
from hpc.launchers.session_errors import SessionError
from hpc.launchers.session_nodes import SessionNode


@pytest.mark.parametrize(
    ("left_s", "age_s", "text"),
    [
        (None, 3.0, "running  1 node"),
        (62.5, 0.4, "running  1 node  left 1:02"),
        (62.5, 3.0, "running  1 node  left 59 s"),
        (2.0, 30.0, "running  1 node  left 0 s"),
    ],
)
def test_the_time_that_is_left_goes_on_between_signs_of_life(left_s, age_s, text):
    assert shown({"state": "running", "text": "running  1 node", "left_s": left_s}, age_s) == text
    assert shown({"state": "ended", "text": "ended", "left_s": left_s}, age_s) == "ended"


def test_nodes_that_are_missing_for_the_same_reason_are_told_together():
    infos = [SessionNode(number, number, None, host=f"n{number}") for number in (1, 2, 3)]
    infos[0].why = infos[1].why = "its port is taken: by another"
    assert str(SessionError("not ready", infos)).splitlines() == [
        "not ready",
        "  node 1 (n1), node 2 (n2): its port is taken: by another",
        "  node 3 (n3): its supervisor has not answered",
    ]
    assert infos[0].problem() == "node 1 (n1): its port is taken: by another"

"""What is told of a job and of nodes that are missing follows from values, not from what the texts beside them say."""

from __future__ import annotations

import pytest

from hpc.launch.standing import _correct
from hpc.launchers.scheduler import JobInfo
from hpc.launchers.session import SessionError, SessionNode


@pytest.mark.parametrize(
    ("left_s", "text", "shown"),
    [
        (None, "running  1 node", "running  1 node  left 1:00"),
        (None, "running  what is left over", "running  what is left over  left 1:00"),
        (0.0, "running  1 node", "running  1 node"),
    ],
)
def test_the_time_that_is_left_is_told_once(left_s, text, shown):
    row = {"state": "running", "text": text, "left_s": left_s}
    _correct(row, JobInfo("7", "running", "RUNNING", left="1:00"))
    assert row["text"] == shown


def test_nodes_that_are_missing_for_the_same_reason_are_told_together():
    infos = [SessionNode(number, number, None, host=f"n{number}") for number in (1, 2, 3)]
    infos[0].why = infos[1].why = "its port is taken: by another"
    assert str(SessionError("not ready", infos)).splitlines() == [
        "not ready",
        "  node 1 (n1), node 2 (n2): its port is taken: by another",
        "  node 3 (n3): its supervisor has not answered",
    ]
    assert infos[0].problem() == "node 1 (n1): its port is taken: by another"

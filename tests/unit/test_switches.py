"""Where a node is in the network, as labels."""

from __future__ import annotations

import pytest

from hpc.core.node.detect import switches_above
from hpc.core.policy.labels import check_value, node_labels


@pytest.mark.parametrize(
    ("variable", "switch", "path"),
    [
        ("root.s1.nid0001", "s1", "root.s1"),
        ("top.row[1-2].s4.n7", "s4", "top.row-1-2-.s4"),
        ("n7", None, None),
        ("", None, None),
    ],
)
def test_the_switches_above_a_node_are_labels(variable, switch, path):
    labels = node_labels({}, 1, "h", "", switches_above({"OF_A_SCHEDULER": variable}, ["OTHER", "OF_A_SCHEDULER"]))
    assert (labels.get("hpc.io/switch"), labels.get("ray.io/network-path")) == (switch, path)
    assert all(check_value(value) == value for value in labels.values())

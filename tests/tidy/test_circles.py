"""No file of the package needs another one that needs it, directly or through others."""

from __future__ import annotations

import pytest
from imports import LAZY, TOP, Graph, circles, graph


@pytest.mark.parametrize("kinds", [(TOP,), (TOP, LAZY)], ids=["at the top", "in functions too"])
def test_imports_go_in_no_circle(kinds):
    assert circles(graph(), kinds) == []


def test_a_circle_is_seen():
    arrows: Graph = {"a": {"b": {TOP}}, "b": {"c": {LAZY}}, "c": {"a": {TOP}}, "d": {"a": {TOP}}}
    assert circles(arrows, (TOP,)) == [] and circles(arrows, (TOP, LAZY)) == [["a", "b", "c"]]
    assert len(graph()) > 250 and graph()["hpc.session"]["hpc.connection"] == {TOP}
    assert graph()["hpc.session"]["hpc.core.owner.client"] >= {LAZY}, "imports in functions are counted"

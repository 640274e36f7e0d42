"""No file of the package needs another one that needs it, directly or through others: to run, or for its types."""

from __future__ import annotations

import pytest
from imports import LAZY, TOP, TYPING, Graph, circles, graph

#: Files that offer the names of others and import them when they are asked for: what they say of these is for tools.
FACES = ("hpc", "hpc.util")


def without_faces(arrows: Graph) -> Graph:
    return {
        source: {target: kinds - {TYPING} if source in FACES else kinds for target, kinds in targets.items()}
        for source, targets in arrows.items()
    }


@pytest.mark.parametrize(
    "kinds", [(TOP,), (TOP, LAZY), (TOP, LAZY, TYPING)], ids=["at the top", "in functions too", "for types too"]
)
def test_imports_go_in_no_circle(kinds):
    assert circles(without_faces(graph()), kinds) == []


def test_a_circle_is_seen():
    arrows: Graph = {"a": {"b": {TOP}}, "b": {"c": {LAZY}}, "c": {"a": {TYPING}}, "d": {"a": {TOP}}}
    assert circles(arrows, (TOP, LAZY)) == [] and circles(arrows, (TOP, LAZY, TYPING)) == [["a", "b", "c"]]
    assert len(graph()) > 250 and graph()["hpc.api.init"]["hpc.api.connection"] == {TOP}
    assert LAZY in graph()["hpc.api.init"]["hpc.core.owner.shell.client"], "imports in functions are counted"
    assert graph()["hpc.api.connection"]["hpc.core.owner.ports"] == {TYPING}

"""What the driver of a run does with the items of a task."""

from __future__ import annotations

import pytest

pytest.importorskip("pyarrow")

from hpc.data.exec import streams
from hpc.data.exec.work import WorkState


class Recorder:
    """In the place of a machine, of its work, and of arrivals: items as they come, None where none has come yet."""

    state = WorkState.BEGUN
    parts = ()

    def __init__(self, items):
        self.items, self.heard = list(items), []

    def take(self, generator):
        return self.items.pop(0)

    def begun(self, work, node):
        self.heard.append("begun")

    def over(self, work, *last):
        self.heard.append("over")


def test_a_generator_is_held_to_its_end(monkeypatch):
    """The items of one that is let go before its end are not made again when they are lost."""
    monkeypatch.setattr(streams.hpc, "get", lambda ref: ref)
    both = Recorder([((0.0, "1"), False), ((0.1, 0, {}), False), None, (None, False)])
    stream = streams.TaskStream(both, None, both)
    assert stream.read(both) and both.heard == ["begun"]
    assert not stream.read(both) and both.heard == ["begun", "over"]

"""What the driver of a run does with the items of a task."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("pyarrow")

from hpc.data.block.meta import BlockMeta
from hpc.data.exec import streams
from hpc.data.exec.bodies import Told, encode_told
from hpc.data.exec.work import WorkState


class Recorder:
    """In the place of a machine, of its work, and of arrivals: items as they come, None where none has come yet."""

    state = WorkState.BEGUN
    parts = ()

    def __init__(self, items):
        self.items, self.heard = list(items), []

    def take(self, generator):
        return self.items.pop(0)

    def take_many(self, generator, most):
        taken = []
        while len(taken) < most and self.items[0] is not None and not self.items[0][1]:
            taken.append(self.items.pop(0)[0])
        return taken

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


def test_of_blocks_that_are_told_together_each_is_its_own_part_s_and_has_the_schema_of_the_first(monkeypatch):
    class Machine(Recorder):
        wants_values = False
        recovery = SimpleNamespace(is_on=False)
        parts = (0, 1, 2)

        def block(self, work, ref, meta, note, value, node):
            self.heard.append((ref, meta.rows, meta.schema))

        def part_over(self, work):
            self.heard.append("part over")

        def offered(self, work, nbytes):
            self.heard.append(("offered", nbytes))

    told = [Told(0, BlockMeta(1, 10, b"s")), Told(0, BlockMeta(2, 20, first=1)), Told(2, BlockMeta(3, 30))]
    items = [(0.0, "1"), encode_told(told), "a", "b", "c", (0.1, 0, {})]
    monkeypatch.setattr(streams.hpc, "get", lambda ref: ref)
    made = Machine([*((item, False) for item in items), (None, False)])
    stream = streams.TaskStream(made, None, made)
    stream.allowed = 2
    assert not stream.read(made)
    # The part in between has given no block, and what may not be taken yet is offered by its own bytes.
    blocks = ["begun", ("a", 1, b"s"), ("b", 2, b"s"), "part over", "part over", ("offered", 30)]
    assert made.heard == blocks
    stream.allowed = 1
    assert not stream.read(made)
    assert made.heard == [*blocks, ("c", 3, b"s"), "part over", "over"]

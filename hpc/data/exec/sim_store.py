"""What lies in the stores of the simulated nodes."""

from __future__ import annotations

from typing import Any

from hpc.data.exec.operators import Operator
from hpc.data.exec.operators.joining import JoinOperator
from hpc.data.exec.operators.maps import ResizeOperator
from hpc.data.exec.work import Block

Rows = tuple[Any, ...]


class Stored:
    """A block in the store of the world, until nobody has it any more."""

    def __init__(self, world: Any, op: int, rows: Rows, nbytes: int, running: Any = None) -> None:
        self.world, self.op, self.rows, self.nbytes = world, op, rows, nbytes
        world.stored += nbytes
        self.node, self.lost = "1", False
        #: By a call, or by a task of these inputs.
        self.by_call = False
        self.inputs: tuple[Stored, ...] = ()
        if running is not None and len(world.nodes) > 1:
            self.node, self.by_call = running.node, running.work.actor is not None
            self.inputs = running.inputs
            world.objects.add(self)

    def is_there(self) -> bool:
        """Whether it can be read: what tasks have made is made again, if their inputs are there."""
        if self.lost and not self.by_call and all(one.is_there() for one in self.inputs):
            self.lost, self.node = False, "1"
        return not self.lost

    def __del__(self) -> None:
        self.world.stored -= self.nbytes


def gathered(op: Operator) -> list[Block]:
    """Blocks that an operator needs together, however many they are."""
    if op.takes_at_end:
        return [block for work in op.running.values() for block in work.kept]
    if isinstance(op, JoinOperator):
        return op.kept_blocks
    if not isinstance(op, ResizeOperator):
        return []
    taken = [block for work in op.running.values() for block in work.blocks]
    return [*(block for block, _, _ in op.open), *(block for part in op.parts for block in part.blocks), *taken]


def check_rows(world: Any) -> None:
    """Of a run that has ended: each row has come once, and in its order."""
    while world.waiting and world.closes_at is None:
        world.got += world.waiting.pop(0).ref.rows
    assert world.error is None, repr(world.error)
    got, expected = world.got, world.expected
    if world.fails:
        assert len(set(got)) == len(got), "a row came twice"
        return
    if not world.ordered:
        got, expected = sorted(got, key=repr), sorted(expected, key=repr)
        assert world.closes_at is not None or got == expected, f"{len(got)} rows of {len(expected)}"
        return
    assert got == expected[: len(got)], "rows are not in their order"
    assert world.closes_at is not None or len(got) == len(expected), f"{len(got)} rows of {len(expected)}"
    budget = world.machine.budget
    assert budget.reserved == 0 and budget.heap == 0, "something is reserved at the end"

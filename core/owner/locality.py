"""Where a task's large arguments are: a hint for its placement, nothing more.

Only tasks with references among their arguments come here, and only large stored arguments give a hint. Moving a small
object is cheaper than waiting for a certain node.
"""

from __future__ import annotations

from collections.abc import Sequence

from hpc.core.owner.tables import Shape
from hpc.core.wire import STORED, Result

#: Stored arguments of less than this, together, do not decide where a task runs.
LOCALITY_BYTES = 1 << 20


def best_node(values: Sequence[Result]) -> int:
    """The node that holds most bytes of these values, 0 where it does not matter."""
    held: dict[int, int] = {}
    total = 0
    for value in values:
        if value.kind == STORED:
            total += value.size
            for node in value.nodes:
                held[node] = held.get(node, 0) + value.size
    if total <= LOCALITY_BYTES or not held:
        return 0
    return max(held, key=lambda node: (held[node], -node))


def near_shape(shape: Shape, node: int) -> tuple[Shape, bool]:
    """The variant of a DEFAULT shape that prefers a node, and whether it was made just now."""
    if shape.near is None:
        shape.near = {}
    found = shape.near.get(node)
    if found is not None:
        return found, False
    made = shape.near[node] = Shape(shape.held, shape.placement, ["near", node], shape.env, False, shape.time_s)
    return made, True

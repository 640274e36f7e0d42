"""Which joins may be done by the tasks that read one of their sides."""

from __future__ import annotations

from typing import Any

from hpc.data.plan.nodes import Exchanged, Read
from hpc.data.plan.physical import PLAIN, Stage


def joins_in_reads(stage: Stage) -> int | None:
    """The side of a join whose tasks may join what they read, if the other side turns out to be small. None: neither.

    Of two sides that are read it is the larger one."""
    if not isinstance(stage.node, Exchanged) or stage.options != PLAIN:
        return None
    may_read = getattr(stage.node.exchange, "may_read", None)
    if may_read is None:
        return None
    sizes = {side: _read_bytes(one) for side, one in enumerate(stage.inputs) if may_read(side)}
    found = [(size, -side) for side, size in sizes.items() if size]
    if not found:
        return None
    size, side = max(found)
    other = stage.inputs[1 + side]
    return None if (_read_bytes(other) or 0) > size else -side


def _read_bytes(stage: Stage) -> int | None:
    """The bytes of a source that tasks of their own read, and of which each part gives the same rows again."""
    is_read = isinstance(stage.node, Read) and stage.pool is None and stage.bundle_rows is None
    if not is_read or not stage.repeatable or stage.draws:
        return None
    source: Any = stage.node.source  # type: ignore[attr-defined]
    known: int | None = source.estimate().whole_nbytes
    return known

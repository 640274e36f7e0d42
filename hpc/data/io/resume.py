"""A write that goes on: its dataset without what the ledger says is done."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

from hpc.data.io.filesink import FileSink

#: The nodes of a plan that run in the task that reads.
IN_THE_TASK = ("Apply", "Filter", "Select", "Drop", "Rename", "WithColumns")


def resumed(dataset: Any, sink: FileSink) -> Any:
    """The dataset that reads what is left.

    Raises ValueError for a plan whose writes do not run in the tasks that read: what is done could not be told.
    """
    assert sink.ledger is not None
    nodes = []
    node = dataset.plan
    while node.inputs:
        kind = type(node).__name__
        if kind not in IN_THE_TASK or getattr(node, "pool", None) is not None:
            raise ValueError(
                f"a write with resume=True is a read, functions of rows or batches that run as tasks, and the write; "
                f"{node.name} is none of them. Write what comes before it, and go on from these files"
            )
        nodes.append(node)
        (node,) = node.inputs
    if not hasattr(node, "source"):
        raise ValueError("a write with resume=True begins with a read: blocks in memory are gone with the session")
    node = dataclasses.replace(node, source=node.source.without(sink.ledger.begin()))
    for above in reversed(nodes):
        node = above.with_inputs((node,))
    other = copy.copy(dataset)
    other.plan = node
    return other

"""What is told of a block beside the block itself: small, and sent inline with every block."""

from __future__ import annotations

import msgspec


class BlockMeta(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """The facts of one block. Plans, budgets and recovery look at these alone.

    rows, nbytes: the size of the block.
    schema: the serialized Arrow schema; empty means that of the block before it from the same task.
    files: the files that its rows came from.
    first: how many rows the task has yielded before this block.
    digest: tells whether a second run of the task made the same cuts so far.
    """

    rows: int
    nbytes: int
    schema: bytes = b""
    files: tuple[str, ...] = ()
    first: int = 0
    digest: int = 0

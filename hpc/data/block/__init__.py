"""Blocks of rows, Arrow tables all: how they are made, cut, compacted, joined, and given as batches.

The names of Ray Data that this package has are for sources and sinks that users write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpc.util.lazy import LazyNames

if TYPE_CHECKING:
    from hpc.data.block.accessor import Block as Block
    from hpc.data.block.accessor import BlockAccessor as BlockAccessor
    from hpc.data.block.accessor import BlockMetadata as BlockMetadata
    from hpc.data.block.accessor import DataBatch as DataBatch

__all__ = ["Block", "BlockAccessor", "BlockMetadata", "DataBatch"]

_lazy = LazyNames(__name__, dict.fromkeys(__all__, "hpc.data.block.accessor"))


def __getattr__(name: str) -> Any:
    return _lazy.get(name)


def __dir__() -> list[str]:
    return _lazy.all()

"""What whoever consumes a dataset sees of its run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from hpc.data.plan.nodes import BlockHandle


class Execution(Protocol):
    """One run of a plan. Iterating gives its blocks in their order, each once; it may be iterated by one thread."""

    def __iter__(self) -> Iterator[BlockHandle]: ...

    def __next__(self) -> BlockHandle:
        """The next block. Raises StopIteration after the last, and what a task raised, as `UserCodeException` does."""
        ...

    def close(self) -> None:
        """Want no more: what runs for it is cancelled at once. Closing again changes nothing."""
        ...

    def stats(self) -> Any:
        """Where the time went, by operator, until now: a `RunStats`, whose text is for people."""
        ...

    def schema(self) -> bytes:
        """The serialized Arrow schema of the first block that has one; b"" before it."""
        ...

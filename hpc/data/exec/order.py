"""Results in the order of their parts, however the tasks that make them run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Order(Generic[T]):
    """Passes blocks on in the order of parts. Those of the first part that has not ended pass at once; the others wait.

    Each step costs as much as it passes on. Where it does not keep the order (`loosen`), all pass at once.
    """

    def __init__(self, emit: Callable[[T], None]) -> None:
        self._emit = emit
        self.keeps = True
        #: The first part that has not ended.
        self.head = 0
        self._waiting: dict[int, list[T]] = {}
        self._ended: set[int] = set()

    def add(self, seq: int, block: T) -> None:
        """A block of a part, behind those that came of it before."""
        if seq == self.head or not self.keeps:
            self._emit(block)
        else:
            self._waiting.setdefault(seq, []).append(block)

    def end(self, seq: int) -> None:
        """A part has given all of its blocks."""
        self._ended.add(seq)
        while self.head in self._ended:
            self._ended.discard(self.head)
            self.head += 1
            for block in self._waiting.pop(self.head, ()):
                self._emit(block)

    @property
    def is_empty(self) -> bool:
        """Whether no block waits here."""
        return not self._waiting

    def clear(self) -> list[T]:
        """All that waits, which nobody wants any more."""
        blocks = [block for blocks in self._waiting.values() for block in blocks]
        self._waiting.clear()
        self._ended.clear()
        return blocks

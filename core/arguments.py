"""What stands for references among the pickled arguments of a task or call."""

from __future__ import annotations

from typing import Any


class ArgSlot:
    """Stands for a top-level reference among pickled arguments, or for all arguments."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index

    def __reduce__(self) -> tuple[Any, ...]:
        return (ArgSlot, (self.index,))

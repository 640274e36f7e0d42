"""Which replicas have computed how much of a text: its beginnings, in blocks, each known by the hash of all up to it.

All of it is pure. A replica that has a block has all before it: where the chain is broken by eviction, what is behind
it counts no more. Ray keeps a tree of characters in an actor for that. Here each process that sends has an index of its
own, since a question to another process costs more than the search.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

#: Characters of a block. What is left at the end of a text is no block.
BLOCK = 16


class Match(NamedTuple):
    """The replicas that have most of a text, and how many of its characters: 0 where none has any of it."""

    replicas: tuple[str, ...]
    length: int


class Prefixes:
    """The index of one process. ``most``: characters that it keeps, of all replicas; ``target``: how many are left when
    it had too many. What was used longest ago goes first."""

    def __init__(self, most: int, target: int) -> None:
        self._most = most
        self._target = target
        #: For each replica its blocks, the one used last at the end.
        self._blocks: dict[str, OrderedDict[int, None]] = {}
        self._size = 0

    def __len__(self) -> int:
        """The characters that are kept."""
        return self._size * BLOCK

    def set_replicas(self, names: Iterable[str]) -> None:
        """These replicas are there from now on: what others have computed is gone with them."""
        known = set(names)
        for gone in [name for name in self._blocks if name not in known]:
            self._size -= len(self._blocks.pop(gone))
        for name in known - set(self._blocks):
            self._blocks[name] = OrderedDict()

    def match(self, text: str, candidates: Sequence[str]) -> Match:
        """The candidates that have the longest beginning of a text."""
        left = [(name, self._blocks[name]) for name in candidates if name in self._blocks]
        best, length = left, 0
        for chain in _chains(text):
            left = [one for one in left if chain in one[1]]
            if not left:
                break
            best, length = left, length + BLOCK
        return Match(tuple(name for name, _ in best) if length else (), length)

    def smallest(self, candidates: Sequence[str]) -> list[str]:
        """The candidates that have the fewest blocks."""
        sizes = {name: len(self._blocks[name]) for name in candidates if name in self._blocks}
        fewest = min(sizes.values(), default=0)
        return [name for name, size in sizes.items() if size == fewest]

    def insert(self, text: str, name: str) -> None:
        """A replica computes a text. One that is not known is left out: it has ended meanwhile."""
        blocks = self._blocks.get(name)
        if blocks is None:
            return
        # From the end on, so that the first blocks are the last to be forgotten.
        for chain in reversed(list(_chains(text))):
            if chain in blocks:
                blocks.move_to_end(chain)
            else:
                blocks[chain] = None
                self._size += 1
        if len(self) > self._most:
            self._evict()

    def _evict(self) -> None:
        """Shrink all replicas alike."""
        share = self._target / len(self)
        for blocks in self._blocks.values():
            for _ in range(len(blocks) - int(len(blocks) * share)):
                blocks.popitem(last=False)
                self._size -= 1


def _chains(text: str) -> Iterator[int]:
    """The hash of each beginning of a text that ends with a block."""
    chain = 0
    for at in range(0, len(text) - BLOCK + 1, BLOCK):
        chain = hash((chain, text[at : at + BLOCK]))
        yield chain

"""Blocks of KV memory and those who use them. Pure: numbers of blocks, no memory.

A block has room for `block_size` tokens. One that is full has a key: the hash of all tokens from the beginning to its
end. A sequence that begins with the same tokens takes the same block and does not compute it again. A block that
nobody uses keeps its content until its room is needed; the one that was left first goes first.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Sequence

#: A key that no content has by chance: keys of different tokens are different for all purposes.
KEY_BYTES = 16


def key_of(parent: bytes, tokens: Sequence[int]) -> bytes:
    """The key of a full block: its tokens, behind those of the block before it."""
    return hashlib.blake2b(parent + array("q", tokens).tobytes(), digest_size=KEY_BYTES).digest()


class Blocks:
    """Which blocks are free, which are shared, and what is in those that are full."""

    def __init__(self, total: int, block_size: int) -> None:
        if total < 1 or block_size < 1:
            raise ValueError(f"num_blocks={total} and block_size={block_size}: both must be at least 1")
        self.total = total
        self.block_size = block_size
        self._empty = list(range(total - 1, -1, -1))
        self._left: OrderedDict[int, None] = OrderedDict()
        self._users = [0] * total
        self._key: list[bytes | None] = [None] * total
        self._by_key: dict[bytes, int] = {}

    @property
    def free(self) -> int:
        """How many blocks can be taken: the empty ones, and those that nobody uses."""
        return len(self._empty) + len(self._left)

    @property
    def used(self) -> int:
        return self.total - self.free

    def users(self, block: int) -> int:
        """How many sequences use a block."""
        return self._users[block]

    def needed(self, tokens: int) -> int:
        """How many blocks so many tokens take."""
        return -(-tokens // self.block_size)

    def find(self, key: bytes) -> int | None:
        """The block with this content, if there is one. It is not taken by that."""
        return self._by_key.get(key)

    def is_left(self, block: int) -> bool:
        """Whether nobody uses the block: taking it makes the free ones fewer."""
        return not self._users[block]

    def share(self, block: int) -> None:
        """Use a block that has what one needs."""
        if not self._users[block]:
            del self._left[block]
        self._users[block] += 1

    def take(self) -> int:
        """An empty block. The one that was left first loses its content if there is no other. Raises IndexError."""
        if self._empty:
            block = self._empty.pop()
        else:
            try:
                block, _ = self._left.popitem(last=False)
            except KeyError:
                raise IndexError("no block is free") from None
            self._forget(block)
        self._users[block] = 1
        return block

    def name(self, block: int, key: bytes) -> None:
        """Say what is in a block that has become full. Another one with the same content keeps the name."""
        if self._key[block] is None and key not in self._by_key:
            self._key[block] = key
            self._by_key[key] = block

    def give_back(self, blocks: Sequence[int]) -> None:
        """Use the blocks of a sequence no more. The last ones go first: a prefix is worth more than what follows."""
        for block in reversed(blocks):
            if self._users[block] < 1:
                raise ValueError(f"block {block} is given back by a sequence that does not use it")
            self._users[block] -= 1
            if not self._users[block]:
                if self._key[block] is None:
                    self._empty.append(block)
                else:
                    self._left[block] = None

    def forget_all(self) -> None:
        """Empty all blocks that nobody uses, and share none of those that are in use with others from now on."""
        self._empty.extend(self._left)
        self._left.clear()
        self._by_key.clear()
        self._key = [None] * self.total

    def _forget(self, block: int) -> None:
        key = self._key[block]
        if key is not None:
            del self._by_key[key]
            self._key[block] = None

"""A digest of all that a simulated run delivers: equal digests mean that nothing behaved differently.

Compare it before and after a change of pure code that is meant to change no behaviour:
``python -m hpc.core.sim --digest --seeds 0:1000``. It does not depend on PYTHONHASHSEED.
"""

from __future__ import annotations

import hashlib
import struct

from hpc.core.ids import Address

_HEAD = struct.Struct("<dIIIII")


class Digest:
    """A hash over frames and journal records, with the virtual time, the destination and the source of each."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=8)
        self.frames = 0

    def add(self, now: float, dst: Address, src: Address, body: bytes) -> None:
        """A machine is about to take a frame, or the head has written a record (from HEAD to HEAD)."""
        self.frames += 1
        self._hash.update(_HEAD.pack(now, *dst, *src, len(body)))
        self._hash.update(body)

    def __str__(self) -> str:
        return self._hash.hexdigest()

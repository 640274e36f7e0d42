"""What the asker of a watch knows of the keys, and what it asks next. Pure; see `core.head.watch`."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from hpc.core.wire import KvWatch

_decode = msgspec.msgpack.Decoder(tuple[int, list[bytes] | None, list[tuple[bytes, int, bytes | None]]]).decode


class Change(NamedTuple):
    """What has become of a key: its value now, or None if it is gone, since this version."""

    key: bytes
    value: bytes | None
    version: int


class Watched:
    """A key, or all keys that begin with it: which there are, as far as was told.

    A head that has forgotten that a key was deleted tells all keys that there are, and the key is none of them.
    """

    def __init__(self, namespace: str, key: bytes, prefix: bool) -> None:
        self.namespace, self.key, self.prefix = namespace, key, prefix
        self._seen = 0
        self._versions: dict[bytes, int] = {}

    def question(self, number: int) -> KvWatch:
        """What to ask the head, under this number."""
        return KvWatch(number, self.namespace, self.key, self.prefix, self._seen)

    def learn(self, data: bytes) -> list[Change]:
        """Take an answer. Returns the changes, the oldest first; it may have none."""
        upto, present, rows = _decode(data)
        told = {key for key, _, _ in rows}
        gone = [] if present is None else sorted(self._versions.keys() - told.union(present))
        changes = [Change(key, None, upto) for key in gone]
        # What came and went since the last time was never there for us.
        changes += [Change(key, value, at) for key, at, value in rows if value is not None or key in self._versions]
        self._seen = upto
        for key, value, version in changes:
            if value is None:
                del self._versions[key]
            else:
                self._versions[key] = version
        return changes

"""Where objects lie and how large they are, as their owner knows it. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from hpc.core.ids import Address
from hpc.core.owner.state import OwnerState
from hpc.core.wire import Answer, Locate

#: In the place of a kind of value: none yet; no such object here.
PENDING, UNKNOWN = -1, -2

#: The kind of an object's value, its size in bytes, and the nodes on which copies lie.
PlaceRow = tuple[int, int, tuple[int, ...]]


class Places:
    """What this process tells of its own objects."""

    def __init__(self, state: OwnerState) -> None:
        self.state = state

    def of(self, idents: Iterable[bytes]) -> list[PlaceRow]:
        """The places of objects that this process owns, in their order."""
        rows: list[PlaceRow] = []
        for ident in idents:
            entry = self.state.entries.get(ident)
            if entry is None or not entry.owned:
                rows.append((UNKNOWN, 0, ()))
            elif entry.result is None:
                rows.append((PENDING, 0, ()))
            else:
                result = entry.result
                rows.append((result.kind, result.size or len(result.data), result.nodes))
        return rows

    def on_locate(self, src: Address, msg: Locate) -> None:
        """Another process asks."""
        self.state.send(src, Answer(msg.req, True, msgspec.msgpack.encode(self.of(msg.idents))))

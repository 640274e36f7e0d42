"""Actors of this process that live and die together, as a library holds them. The owner's machine ends them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hpc.core.owner.ports import Reference
from hpc.core.owner.ref import ObjectRef

if TYPE_CHECKING:
    from hpc.core.owner.shell.client import Client


class SharedFate:
    """What ties actors together; see `hpc.spi.share_fate`. Dropping it changes nothing."""

    def __init__(self, client: Client, actors: Sequence[Reference], names: Sequence[str]) -> None:
        self._client = client
        self._ids = [actor._id for actor in actors]
        machine = client.machine
        self._fate = client.step(lambda: machine.actors.share_fate(self._ids, names))
        #: A reference that has a value once one of them has ended, and all with it.
        self.over: ObjectRef[None] = ObjectRef(self._fate.ident, client)

    @property
    def is_over(self) -> bool:
        """Whether one of them has ended, and all with it."""
        return self._fate.over

    def rename(self, names: Sequence[str]) -> None:
        """From now on they are called so in errors."""
        self._fate.names = list(names)

    def end(self, why: str, member: int = -1) -> None:
        """End all, now, because of one of them (its place in their order) or of none (-1)."""
        client, fate = self._client, self._fate
        ident = self._ids[member] if member >= 0 else b""
        client.step(lambda: client.machine.actors.end_fate(fate, ident, why))

    def part(self) -> None:
        """Untie them: each ends for itself from now on."""
        client, fate = self._client, self._fate
        client.step(lambda: client.machine.actors.part(fate))

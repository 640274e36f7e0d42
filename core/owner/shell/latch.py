"""A reference that this process gives a value when it likes: what a thread waits for beside other references."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpc.core.owner.ref import ObjectRef
from hpc.core.owner.shell.collecting import Collecting
from hpc.core.wire import INLINE, NONE, Result

if TYPE_CHECKING:
    from hpc.core.owner.shell.client import Client


class Latch:
    """``ref`` has the value None once `open` was called, from any thread. Opening again changes nothing."""

    def __init__(self, client: Client) -> None:
        self._client = client
        machine = client.machine

        def own() -> bytes:
            client.check_lost()
            ident = machine.new_ids()
            machine.objects.own(ident)
            return ident

        self.ref: ObjectRef[None] = ObjectRef(client.step(own), client)

    def again(self) -> Latch:
        """A new one, in the same session. Raises SessionLostError where that was left; none is started for it."""
        return Latch(self._client)

    def open(self) -> None:
        """Give it its value."""
        ref, client = self.ref, self._client

        def settle() -> None:
            entry = client.machine.state.entries.get(ref._id)
            if entry is not None and entry.result is None:
                client.machine.objects.set_result(ref._id, Result(INLINE, NONE))

        try:
            client.step(settle)
        except Collecting:  # a finalizer opens it
            client.later(lambda: client.step(settle))

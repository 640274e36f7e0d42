"""References among the arguments of tasks, calls and constructors: held until they end, and turned into values."""

from __future__ import annotations

from collections.abc import Sequence

from hpc.core.owner.objects import Objects
from hpc.core.owner.state import OwnerState
from hpc.core.owner.tables import CallRec, OwnedActor, TaskRec
from hpc.core.wire import AT_OWNER, ERROR, INLINE, SYSTEM, Result


class Arguments:
    """Holds arguments that are references and looks up their values."""

    def __init__(self, state: OwnerState, objects: Objects) -> None:
        self.state, self.objects = state, objects
        self.entries, self.unseen = state.entries, state.unseen

    def take(self, rec: TaskRec | CallRec | OwnedActor, refs: Sequence[bytes], holds: Sequence[bytes]) -> None:
        """Hold all references among the arguments; those without a value yet will have it called `resolved`."""
        for ident in holds:
            self.objects.hold(ident)
        pending = [e for ident in refs if (e := self.objects.hold(ident)).result is None]
        rec.unresolved = len(pending)
        for entry in pending:
            self.objects.await_value(entry, rec)

    def values(self, refs: Sequence[bytes]) -> tuple[tuple[Result, ...], Result | None]:
        """What the references resolved to, and the first error among them."""
        values: list[Result] = []
        room = self.state.max_values_bytes
        for ident in refs:
            result = self.entries[ident].result
            assert result is not None
            if result.kind == ERROR or result.kind == SYSTEM:
                self.unseen.discard(ident)  # whoever gets the value of this task gets that error
                return (), result
            if result.kind == INLINE:
                if len(result.data) > room:
                    result = Result(AT_OWNER, b"", len(result.data))
                else:
                    room -= len(result.data)
            values.append(result)
        return tuple(values), None

"""What a process tells the head of its own tasks, actors and values: those that were lost, and what followed. Pure."""

from __future__ import annotations

from hpc.core.events.kinds import EventKind
from hpc.core.events.notes import Folding, Note, shortened
from hpc.core.ids import HEAD
from hpc.core.owner.state import OwnerState
from hpc.core.wire import Happened


class OwnerEvents:
    """The events of one process. A storm is folded: see core/events/notes."""

    def __init__(self, state: OwnerState) -> None:
        self.state = state
        self._folding = Folding()
        self._now = 0.0

    def note(self, kind: EventKind, text: str, node: int = 0, entity: bytes = b"") -> None:
        """Something has happened now to a task, an actor or a value."""
        note = self._folding.take(kind, Note(kind, text, node, entity.hex()), self._now)
        if note is not None:
            self.state.send(HEAD, Happened([shortened(note)]))

    def tick(self, now: float) -> None:
        """Tell what was folded for long enough."""
        self._now = now
        if self._folding.waits:
            due = self._folding.due(now)
            if due:
                self.state.send(HEAD, Happened([shortened(note) for note in due]))

    def leave(self) -> None:
        """Tell all that is left."""
        rest = self._folding.rest(self._now)
        if rest:
            self.state.send(HEAD, Happened([shortened(note) for note in rest]))

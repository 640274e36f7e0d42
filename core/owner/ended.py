"""Actors of this process that have ended and that it has forgotten: told to its raylet, which remembers them. Pure."""

from __future__ import annotations

from hpc.core.events.rows import ActorRow, shortened
from hpc.core.owner.actor_rows import actor_row
from hpc.core.owner.state import OwnerState
from hpc.core.owner.tables import OwnedActor
from hpc.core.wire import ActorsEnded

#: They are told together, so often; and so many at most.
TELL_S = 1.0
MAX_ROWS = 10_000
#: The owner of detached actors has no raylet, and remembers so many itself.
MAX_KEPT = 1_000


class EndedActors:
    """Actors that the raylet was not told of yet. With ``keeps`` it never is, and the rows stay here."""

    def __init__(self, state: OwnerState) -> None:
        self.state = state
        self.keeps = False
        self.rows: list[ActorRow] = []
        self.lost = 0
        self._tell_at = 0.0

    def add(self, actor: OwnedActor) -> None:
        """An actor that is dead, and will be forgotten."""
        self._add(actor_row(self.state, actor))

    def _add(self, row: ActorRow) -> None:
        shortened(row)
        self.rows.append(row)
        over = len(self.rows) - (MAX_KEPT if self.keeps else MAX_ROWS)
        if over > 0:
            del self.rows[:over]
            self.lost += over

    def tick(self, now: float) -> None:
        """Tell, now and then."""
        if self.rows and now >= self._tell_at and not self.keeps:
            self._tell_at = now + TELL_S
            self.tell()

    def tell(self) -> None:
        """Leave what is there for the raylet."""
        if self.rows and not self.keeps:
            self.state.send(self.state.raylet, ActorsEnded(self.rows, self.lost))
            self.rows, self.lost = [], 0

    def leave(self) -> None:
        """This process ends, and its actors with it."""
        for actor in self.state.actors.values():
            row = actor_row(self.state, actor)
            if row.state != "DEAD":
                row.state, row.worker_id, row.node_id = "DEAD", "", ""
                row.why = row.death_cause = f"its owner, process {row.owner}, has left"
            self._add(row)
        self.tell()

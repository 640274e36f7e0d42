"""A group of equal actors in reserved room: started together, called together, and ended together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import hpc
from hpc.actor import ActorHandle
from hpc.exceptions import HpcError, SessionLostError
from hpc.runs.reservation import Reservation

#: How long the wait for something to happen lasts before it looks around.
LOOK_S = 1.0
END_TIMEOUT_S = 10.0


class GroupFailed(Exception):
    """Members of the group have failed: their exceptions, by the members' indices."""

    def __init__(self, failures: Mapping[int, Exception]) -> None:
        super().__init__(failures)
        self.failures = dict(failures)

    def __str__(self) -> str:
        first = min(self.failures)
        more = f" (and {len(self.failures) - 1} more)" if len(self.failures) > 1 else ""
        return f"member {first} failed: {self.failures[first]}{more}"


class WorkerGroup:
    """Actors of one class, one for each worker of a reservation that is there. ``options``: of the actors, beside
    their place and what they hold."""

    def __init__(self, cls: type[Any], reservation: Reservation, options: Mapping[str, Any]) -> None:
        self.reservation = reservation
        self.actors: list[ActorHandle] = []
        made: Any = hpc.remote(cls)
        try:
            for index in range(reservation.request.count):
                self.actors.append(made.options(**options, **reservation.options(index)).remote())
        except BaseException:
            self.kill()
            raise

    def gather(self, refs: Sequence[Any], look: Callable[[int], None] | None = None) -> list[Any]:
        """The values of all members' calls, in order. Raises `failed` of the first that fails, as soon as it does.

        look: called about once a second while some are missing, with the number of those that are there.
        """
        members = {ref: member for member, ref in enumerate(refs)}
        values: dict[int, Any] = {}
        while members:
            for ref in ready(list(members)):
                member = members.pop(ref)
                try:
                    values[member] = hpc.get(ref)
                except SessionLostError:
                    raise
                except Exception as error:
                    raise self.failed({member: error}) from error
            if look is not None and members:
                look(len(values))
        return [values[member] for member in range(len(refs))]

    def failed(self, failures: Mapping[int, Exception]) -> Exception:
        """The error that tells of these failures."""
        return GroupFailed(failures)

    def end(self) -> None:
        """Let the members end in order, with their exit handlers; those that do not are killed."""
        refs = [actor.__getattr__("__ray_terminate__").remote() for actor in self.actors]
        hpc.wait(refs, num_returns=len(refs), timeout=END_TIMEOUT_S)
        self.kill()

    def kill(self) -> None:
        """End the members at once. The room stays reserved."""
        for actor in self.actors:
            try:
                hpc.kill(actor)
            except (HpcError, OSError):
                continue
        self.actors = []


def ready(refs: list[Any]) -> list[Any]:
    """The references that have a value by now; waits a moment for the first."""
    if hpc.wait(refs, num_returns=1, timeout=LOOK_S)[0]:
        return list(hpc.wait(refs, num_returns=len(refs), timeout=0)[0])
    return []

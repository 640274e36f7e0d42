"""What a router tells the controller: how many of its requests wait and run, and which replicas are dead.

Nothing waits for it, and where there is no controller at the moment the next one is told the next time.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from hpc.serve.calls import clock
from hpc.serve.context import controller
from hpc.serve.messages import HandleMetrics

if TYPE_CHECKING:
    from hpc.serve.calls.ports import Routes
    from hpc.serve.calls.router import Seat

#: How often at most, while there are replicas, and while a request waits for the first one.
EVERY_S = 1.0
FIRST_S = 0.1


class Telling:
    """Tells the controller of one router."""

    def __init__(self, router: Routes) -> None:
        self._router = router
        self._told_at = 0.0

    def tell(self, now: float) -> None:
        """How many wait and run, if that is wanted and was not told just now (the router's lock is held). While there
        are no replicas nobody else says that one is needed: it is told as soon as it may be."""
        router = self._router
        table = router.table
        if table is None or not table.is_autoscaled:
            return
        has_seats = bool(router.machine.seats)
        every_s = min(EVERY_S, table.metrics_interval_s) if has_seats else FIRST_S
        at = max(now, self._told_at + every_s)
        if at <= now or (not has_seats and self._told_at <= now):
            self._told_at = at
            clock.at(at, self._push)

    def tell_stranded(self, now: float) -> None:
        """The same where requests wait and there are no replicas any more."""
        if self._router.machine.queued and not self._router.machine.seats:
            self.tell(now)

    def _push(self) -> None:
        router = self._router
        with router.lock:
            running = {seat.id: seat.running for seat in router.machine.seats.values()}
            queued = router.machine.queued
        ident = router.deployment_id
        row = HandleMetrics(router.id, ident.app_name, ident.name, queued, running, router.is_closed)
        _say("note_handle", row)

    def tell_dead(self, seat: Seat) -> None:
        """A replica has ended, as a call of it says."""
        clock.at(time.monotonic(), lambda: _say("note_replica_dead", seat.id))


def _say(what: str, *args: Any) -> None:
    try:
        getattr(controller(), what).remote(*args)
    except Exception:
        return  # there is none at the moment

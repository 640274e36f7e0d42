"""Replicas that say nothing: a stopped process, a lost node. The runtime finds out after a while; requests wait less.

Nobody is asked while answers come. When the oldest request of a replica has waited for a second, and nothing was heard
of it in that second, a probe is sent. A thread of the replica answers that does nothing else. Without an answer after
another second no request goes there. What was sent after the last word of it goes elsewhere, and what may run twice,
as far as the budget of retries goes. The rest waits on: it may be running. So does an answer that has begun: its reader
has a part of it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from hpc import spi

if TYPE_CHECKING:
    from hpc.serve.calls.call import Call
    from hpc.serve.calls.ports import Routes
    from hpc.serve.calls.router import Seat

#: How long a request waits until its replica is probed, and how long the probe may take.
PROBE_AFTER_S = 1.0
ANSWER_S = 1.0
#: A replica that has said nothing for this long has lost what it had.
GIVEN_UP_S = 30.0


class _Probe:
    """A question that a replica has not answered."""

    __slots__ = ("asked_at", "ref")

    def __init__(self, asked_at: float, ref: Any) -> None:
        self.asked_at = asked_at
        self.ref = ref


class Silence:
    """Looks after the replicas of one router. The router's lock is held in all methods."""

    every_s = 0.25

    def __init__(self, router: Routes) -> None:
        self._router = router
        self._probes: dict[str, _Probe] = {}

    def heard(self, seat: Seat, now: float) -> None:
        """A replica has answered something."""
        seat.heard_at = now
        if seat.is_silent:
            self._router.send_all(self._router.machine.silent(seat, False, now))

    def look(self, now: float) -> list[Call]:
        """Probe those that have been silent; returns the requests that are to leave a silent one."""
        leaving: list[Call] = []
        router = self._router
        for ident, calls in router.sent.items():
            if not calls:
                continue
            oldest = next(iter(calls))
            seat = oldest.seat
            assert seat is not None
            probe = self._probes.get(ident)
            if probe is not None:
                if now - probe.asked_at >= ANSWER_S:
                    leaving += self._is_silent(seat, calls, probe, now)
            elif now - max(seat.heard_at, oldest.sent_at) >= PROBE_AFTER_S:
                self._ask(seat, now)
        for ident in [ident for ident in self._probes if ident not in router.replicas]:
            del self._probes[ident]
        return leaving

    def _ask(self, seat: Seat, now: float) -> None:
        ref = self._router.replicas[seat.id].probe.remote()
        self._probes[seat.id] = _Probe(now, ref)
        spi.when_ready(ref, self._router.soon, self._answered, seat, ref)

    def _answered(self, seat: Seat, ref: Any) -> None:
        """It was read: the replica speaks, or it is dead, and then its calls say so."""
        probe = self._probes.get(seat.id)
        if probe is None or probe.ref is not ref:
            return
        del self._probes[seat.id]
        if spi.answer_of(ref) is not False:
            self.heard(seat, time.monotonic())
        spi.send_now()

    def _is_silent(self, seat: Seat, calls: dict[Call, None], probe: _Probe, now: float) -> list[Call]:
        router = self._router
        if not seat.is_silent:
            router.machine.silent(seat, True, now)
        given_up = now - max(seat.heard_at, probe.asked_at) >= GIVEN_UP_S
        leaving = []
        always = router.table is not None and router.table.retry == "always"
        for call in calls:
            call.is_begun = call.is_accepted or call.sent_at <= seat.heard_at
            if call.is_begun and not call.is_accepted and (call.is_safe or always) and router.machine.may_retry(call):
                call.is_begun = False  # that it may run twice is paid for
            if not call.is_begun or given_up:
                leaving.append(call)
        return leaving

"""A raylet counts its open files: where there are none for one more worker, work waits, and who wants it is told."""

from __future__ import annotations

import logging
from collections.abc import Callable

from hpc.core.ids import Address
from hpc.core.node.limits import room_for_workers, why_no_worker
from hpc.core.raylet.leasing import Leasing
from hpc.core.wire import LeaseInfeasible, Message

log = logging.getLogger("hpc.raylet")


class Files:
    """How many processes a node may have by its limit of open files."""

    def __init__(self, leasing: Leasing, send: Callable[[Address, Message], None]) -> None:
        self._leasing = leasing
        self._send = send
        self._told: set[tuple[Address, int]] = set()
        self.look()

    def look(self) -> None:
        """Several times a second: see what is free."""
        leasing = self._leasing
        there, before = len(leasing.procs), leasing.max_procs
        leasing.max_procs = there + room_for_workers(len(leasing.starting))
        if there < leasing.max_procs:
            self._told.clear()
            if leasing.max_procs > before:
                leasing.schedule()  # for who was refused
            return
        for demand in leasing.demands.values():
            who = (demand.owner, demand.req)
            if demand.want and who not in self._told:
                self._told.add(who)
                why = why_no_worker(there)
                log.error("%s", why)
                self._send(demand.owner, LeaseInfeasible(demand.req, why))

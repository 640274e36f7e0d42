"""A raylet counts what a worker needs of it: open files and a slot in the arena. Where there is none for one more, work
waits, and its submitter is told.

Two workers never share a slot: what it says when one of them has ended decides what is run again.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

from hpc.core.ids import Address
from hpc.core.node.limits import room_for_workers, why_no_worker
from hpc.core.raylet.leasing import Leasing
from hpc.core.store.arena import MAX_SLOTS
from hpc.core.wire import LeaseInfeasible

log = logging.getLogger("hpc.raylet")

#: Slots that are kept for workers whose predecessors have ended and have not let go of theirs.
SPARE_SLOTS = 64
MAX_WORKERS = MAX_SLOTS - SPARE_SLOTS
NO_SLOT = (
    f"the node has {{}} processes, and no more than {MAX_WORKERS} workers have a place in its shared memory: use more "
    "nodes, or fewer actors and workers at a time"
)


class Files:
    """How many processes a node may have by its limit of open files, and by the slots that are free."""

    def __init__(self, leasing: Leasing, free_slots: Collection[int]) -> None:
        self._leasing = leasing
        self._free_slots = free_slots
        self._told: set[tuple[Address, int]] = set()
        self.look()

    def look(self) -> None:
        """Several times a second: see what is free."""
        leasing = self._leasing
        there, before = len(leasing.procs), leasing.max_procs
        starting = len(leasing.starting)
        slots = max(0, len(self._free_slots) - SPARE_SLOTS - starting)
        leasing.max_procs = there + min(room_for_workers(starting), slots)
        if there < leasing.max_procs:
            self._told.clear()
            if leasing.max_procs > before:
                leasing.schedule()  # for who was refused
            return
        for demand in leasing.demands.values():
            who = (demand.owner, demand.req)
            if demand.want and who not in self._told:
                self._told.add(who)
                why = why_no_worker(there) if slots else NO_SLOT.format(there)
                log.error("%s", why)
                leasing.outbox.append((demand.owner, LeaseInfeasible(demand.req, why)))

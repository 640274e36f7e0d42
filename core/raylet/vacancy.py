"""Whether a node is used, and how one that is not is vacated, so that it can be given back to its scheduler.

Pure. A vacated node takes nothing new, and its workers end: each as soon as nobody needs what it owns. It is empty when
none is left. Until it is ended it can be taken back into use. So no task that begins at the same moment is ever ended
with a node that was idle.

Rejected: draining idle nodes. That cannot be taken back, and what has begun meanwhile would be ended with the node.
"""

from __future__ import annotations

from hpc.core.raylet.leasing import Leasing
from hpc.core.wire import Vacancy


def vacancy(leasing: Leasing) -> Vacancy:
    """How much the node is in use."""
    if leasing.leases or leasing.bundles.held or leasing.bundles.returning or leasing.reservations.waiting:
        return "used"
    if any(demand.want for demand in leasing.demands.values()):
        return "used"
    kinds = {proc.kind for proc in leasing.procs.values()}
    if "driver" in kinds:
        return "used"
    if leasing.closing.vacated:
        return "leaving" if kinds else "empty"
    stays = any(proc.retired for proc in leasing.procs.values())  # for what it owns, or what runs below it
    return "used" if stays else "idle"


def vacate(leasing: Leasing, on: bool) -> None:
    """Begin to empty the node, unless it is used again; or take it back into use."""
    closing = leasing.closing
    if on and not closing.vacated and vacancy(leasing) == "idle":
        closing.vacated = True
        let_workers_end(leasing)
    elif not on and closing.vacated:
        closing.vacated = False
        leasing.schedule()


def let_workers_end(leasing: Leasing) -> None:
    """The idle workers of a vacated node end, and those that were being started."""
    if leasing.closing.vacated:
        for worker in leasing.idle.take_all():
            worker.retired = True
            leasing.to_retire.append(worker)

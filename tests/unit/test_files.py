"""A node has no more workers than it has files and slots for; work waits then, and its owner is told."""

from __future__ import annotations

import pytest

from hpc.core.ids import Address
from hpc.core.raylet import files as module
from hpc.core.raylet.files import MAX_WORKERS, SPARE_SLOTS, Files
from hpc.core.raylet.leasing import Leasing
from hpc.core.resources import UNIT, NodeResources
from hpc.core.wire import LeaseGrant, LeaseInfeasible, LeaseRequest

OWNER = Address(1, 99)


@pytest.mark.parametrize(("slots", "room", "words"), [(2, 1000, f"{MAX_WORKERS} workers"), (9, 2, "open files")])
def test_without_a_slot_or_files_for_one_more_worker_work_waits(monkeypatch, slots, room, words):
    leasing = Leasing(1, NodeResources({"CPU": 8 * UNIT}))
    monkeypatch.setattr(module, "room_for_workers", lambda starting: room - starting)
    free = list(range(SPARE_SLOTS + slots))
    files = Files(leasing, free)
    leasing.on_lease_request(OWNER, LeaseRequest(1, OWNER, {"CPU": UNIT}, {"CPU": UNIT}, 5, 0, True, "DEFAULT", {}))
    for _ in range(3):
        for proc in [*leasing.to_start]:
            leasing.to_start.remove(proc)
            free.pop()
            room -= 1
            leasing.worker_ready(proc)
        files.look()
    assert len([m for _, m in leasing.outbox if isinstance(m, LeaseGrant)]) == 2
    (told,) = [m for dst, m in leasing.outbox if isinstance(m, LeaseInfeasible) and dst == OWNER]
    assert words in told.why and not told.final

"""The worker's loop and its process's pins under the simulator: what breaks a rule of theirs is noticed by a check."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hpc.core.causes import LostCause
from hpc.core.owner.objects import Objects
from hpc.core.owner.pins import Pins
from hpc.core.owner.tables import LeasedWorker
from hpc.core.owner.tasks import Tasks
from hpc.core.sim.run import run
from hpc.core.wire import Blocked, Cancel
from hpc.core.worker.executor import Executor
from hpc.core.worker.loop import Loop

Patch = Callable[[type, str, object], None]


def an_outcome_sent_before_its_references_are_known(patch: Patch) -> None:
    reply = Loop.reply
    patch(Loop, "reply", lambda self, src, done, met, later=False, once=False: reply(self, src, done, []))


def an_end_before_outcomes_were_sent(patch: Patch) -> None:
    patch(Loop, "may_end", property(lambda self: True))


def an_end_although_others_need_the_process(patch: Patch) -> None:
    patch(Loop, "idle", lambda self: self.retiring)


def tasks_taken_out_and_not_given_back(patch: Patch) -> None:
    take_out = Executor.give_back
    patch(Executor, "give_back", lambda self: [one for one in take_out(self) if not one])


def tasks_that_come_during_a_wait_and_stay(patch: Patch) -> None:
    on_frame = Loop.on_frame

    def unblocked(self: Loop) -> None:
        blocked, self.blocked = self.blocked, 0
        on_frame(self)
        self.blocked = blocked

    patch(Loop, "on_frame", unblocked)


def a_wait_that_lends_no_cpu(patch: Patch) -> None:
    begin_wait = Loop.begin_wait

    def silent(self: Loop, lend: bool) -> None:
        begin_wait(self, lend)
        box = self.machine.outbox[self.machine.raylet]
        box[:] = [msg for msg in box if not isinstance(msg, Blocked)]

    patch(Loop, "begin_wait", silent)


def an_end_of_a_wait_that_is_not_told(patch: Patch) -> None:
    patch(Loop, "end_wait", lambda self: setattr(self, "blocked", self.blocked - 1))


def a_process_that_runs_more_than_it_may(patch: Patch) -> None:
    patch(Loop, "run_no_more", lambda self: setattr(self, "retiring", True))


def a_cancelled_task_without_an_outcome(patch: Patch) -> None:
    on_frame = Loop.on_frame

    def forget(self: Loop) -> None:
        self.cancelled[:] = [item for item in self.cancelled if isinstance(item[1], Cancel)]
        on_frame(self)

    patch(Loop, "on_frame", forget)


def a_cancelled_call_of_a_run_that_is_made(patch: Patch) -> None:
    cancel = Executor._cancel_in_run

    def forget(self: Executor, task: bytes) -> bool:
        found = cancel(self, task)
        self.skipped.clear()
        return found

    patch(Executor, "_cancel_in_run", forget)


def a_call_that_waits_for_one_that_never_comes(patch: Patch) -> None:
    patch(Executor, "_skip", lambda self, src, msg: None)


def a_call_that_overtakes_another(patch: Patch) -> None:
    take = Executor._call

    def hasty(self: Executor, src: object, msg: object) -> None:
        order = self._order(src, msg.actor, msg.incarnation, msg.group)  # type: ignore[attr-defined, arg-type]
        if order is not None and msg.seq > order.next_seq:  # type: ignore[attr-defined]
            order.next_seq = msg.seq  # type: ignore[attr-defined]
        take(self, src, msg)  # type: ignore[arg-type]

    patch(Executor, "_call", hasty)


def a_second_pin_that_is_not_given_back(patch: Patch) -> None:
    pinned = Pins._pinned

    def keep(self: Pins, ident: bytes, offset: int, size: int, views: int) -> object:
        pin = self.held.get(ident)
        if pin is None:
            return pinned(self, ident, offset, size, views)
        pin.views += views
        return pin

    patch(Pins, "_pinned", keep)


def a_raylet_that_asks_for_pins_in_vain(patch: Patch) -> None:
    patch(Pins, "on_please_unpin", lambda self, src, msg: None)


def what_a_lost_worker_wrote_stays(patch: Patch) -> None:
    patch(Objects, "disown", lambda self, idents, worker: None)


def a_task_that_has_run_and_counts_as_not_begun(patch: Patch) -> None:
    """Either rule would do in nearly all seeds: such an outcome is sent at once, and its owner knows the order."""
    lost, reply = Tasks.lease_lost, Loop.reply

    def forget(self: Tasks, lease: LeasedWorker, running: bytes | None, cause: LostCause, why: str) -> None:
        lease.told = 0
        for rec in lease.inflight.values():
            rec.order = 1 if rec.msg.task == running else 2
        lost(self, lease, running, cause, why)

    patch(Tasks, "lease_lost", forget)
    patch(Loop, "reply", lambda self, src, done, met, later=False, once=False: reply(self, src, done, met, later))


#: Each with a seed in which it was noticed. All are looked through only where that is so no more.
FAULTS = {
    an_outcome_sent_before_its_references_are_known: 3,
    an_end_before_outcomes_were_sent: 1,
    an_end_although_others_need_the_process: 12,
    tasks_taken_out_and_not_given_back: 0,
    tasks_that_come_during_a_wait_and_stay: 20,
    a_wait_that_lends_no_cpu: 2,
    an_end_of_a_wait_that_is_not_told: 0,
    a_process_that_runs_more_than_it_may: 2,
    a_cancelled_task_without_an_outcome: 6,
    a_cancelled_call_of_a_run_that_is_made: 13,
    a_call_that_waits_for_one_that_never_comes: 10,
    a_call_that_overtakes_another: 2,
    a_second_pin_that_is_not_given_back: 0,
    a_raylet_that_asks_for_pins_in_vain: 2,
    what_a_lost_worker_wrote_stays: 22,
    a_task_that_has_run_and_counts_as_not_begun: 205,
}


@pytest.mark.parametrize(("fault", "seed"), FAULTS.items(), ids=[fault.__name__ for fault in FAULTS])
def test_the_checks_can_fail(monkeypatch, fault, seed):
    fault(monkeypatch.setattr)
    assert any(run(each).problems for each in (seed, *range(200)))

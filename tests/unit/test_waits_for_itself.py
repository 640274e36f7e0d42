"""Waits of an actor's method for a call of somebody else's to the same actor: an error where it comes behind."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from hpc.core.exceptions import DeadlockError, ObjectReconstructionFailedError
from hpc.core.ids import Address, make_id, return_id
from hpc.core.owner.lineage import CIRCLE
from hpc.core.owner.machine import OwnerMachine
from hpc.core.owner.tables import Needs
from hpc.core.wire import INLINE, NO_ARGUMENTS, NONE, Call, Calls, Cancel, CreateActor, Result
from hpc.core.worker.deadlock import Deadlocks
from hpc.core.worker.executor import Executor

OWNER, HERE = Address(1, 1), Address(2, 1)
ACTOR = make_id(OWNER, 1)
MADE = make_id(OWNER, 10)
THREAD = 7


class Host:
    """An actor that runs one call at a time, but for those of the group "other", on its thread `THREAD`."""

    ident, name, is_async, cls = ACTOR, "A", False, object

    def lane(self, thread):
        return "" if thread == THREAD else None

    def lane_of(self, group):
        return group

    def queued(self):
        return {}


@pytest.fixture
def worker():
    """A worker that has borrowed the object `MADE`, whose owner has no value for it."""
    machine = OwnerMachine(HERE)
    machine.objects.hold(MADE)
    client = SimpleNamespace(machine=machine, lock=threading.Lock(), polling=SimpleNamespace(check=lambda: None))
    worker = SimpleNamespace(client=client, executor=Executor(), running={}, main_thread=THREAD)
    worker.executor.handle(OWNER, CreateActor(ACTOR, 0, b"", "A", NO_ARGUMENTS, {}))
    worker.executor.ready.clear()
    return worker


def call(task=MADE, attempt=1, seq=0, num_returns=1, group=""):
    return Call(task, attempt, ACTOR, 0, seq, "make", NO_ARGUMENTS, num_returns, group=group)


def judge(worker, *idents, spare=0, thread=THREAD):
    return Deadlocks(worker).judge(Host(), thread, Needs(lambda: list(idents or [MADE]), spare))


def test_it_does_not_wait_for_what_is_made_again_behind_it_and_was_nested_in_its_arguments(worker):
    assert judge(worker), "it may be lost later"
    worker.executor.handle(OWNER, call())
    with pytest.raises(ObjectReconstructionFailedError, match="it would wait for itself") as error:
        judge(worker)
    assert error.value.reason == CIRCLE
    assert judge(worker, spare=1), "wait() needs other values only"
    assert not judge(worker, thread=8), "a thread that no call needs"


def test_nor_for_one_that_came_too_early(worker):
    worker.executor.handle(OWNER, call(seq=1))
    with pytest.raises(ObjectReconstructionFailedError):
        judge(worker)


def test_nor_for_one_that_was_never_made_before(worker):
    worker.executor.handle(OWNER, call(attempt=0))
    with pytest.raises(DeadlockError, match=r"A\.make\(\)"):
        judge(worker)


def test_nor_for_one_of_a_run_unless_it_was_cancelled(worker):
    worker.executor.handle(OWNER, Calls(MADE, ACTOR, 0, 0, "make", [NO_ARGUMENTS] * 3))
    last = return_id(MADE, 2)
    worker.client.machine.objects.hold(last)
    with pytest.raises(DeadlockError, match=r"A\.make\(\)"):
        judge(worker, last)
    worker.executor.handle(OWNER, Cancel(last, 0))
    assert judge(worker, last)


def test_it_waits_for_a_call_that_another_thread_can_run(worker):
    worker.executor.handle(OWNER, call(group="other"))
    assert judge(worker)


def test_it_waits_for_one_of_several_values_which_its_owner_may_still_have(worker):
    worker.executor.handle(OWNER, call(num_returns=2))
    assert judge(worker)


def test_it_waits_for_what_comes_from_elsewhere_and_for_what_is_there_it_does_not(worker):
    worker.executor.handle(OWNER, call(task=make_id(OWNER, 20)))
    assert judge(worker)
    worker.client.machine.state.entries[MADE].result = Result(INLINE, NONE)
    assert not judge(worker)

"""The pure loop of a worker: what is given back, when outcomes are sent, and when the process may end."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from hpc.core.ids import Address, make_id, raylet_of
from hpc.core.owner.machine import OwnerMachine
from hpc.core.wire import (
    INLINE,
    Blocked,
    BorrowAcked,
    Calls,
    CallsDone,
    Cancel,
    Cleared,
    CreateActor,
    Done,
    GivenBack,
    Result,
    Retire,
    Task,
    Unblocked,
    system_error,
)
from hpc.core.worker.loop import GIVE_BACK_S, REPLY_BATCH, SHORT_US, Loop, goes_in_run

HERE, OWNER, OTHER = Address(1, 2), Address(1, 5), Address(2, 7)
NEVER = system_error("TaskCancelledError", "never began")
VALUE = Result(INLINE, b"1")


class Worker:
    """A worker whose user code does nothing."""

    def __init__(self):
        self.machine = OwnerMachine(HERE)
        self.sent = []
        self.looks = 0
        self.loop = Loop(self.machine, self, NEVER, nullcontext(), self.send_left, self.look)

    def send_left(self, everything):
        for dst, messages in self.machine.take_outbox(everything):
            self.sent += [(dst, msg) for msg in messages]

    def look(self):
        self.looks += 1

    def interrupt(self, task, runs):
        return None

    def ends_programs(self, raylet):
        return False

    def take(self, src, *messages):
        for msg in messages:
            self.loop.handlers[type(msg)](src, msg)
        self.loop.on_frame()

    def left(self, kind=None):
        self.send_left(True)
        sent, self.sent = self.sent, []
        return [(dst, msg) for dst, msg in sent if kind is None or isinstance(msg, kind)]


@pytest.fixture
def worker():
    return Worker()


def task(number, lease=3):
    return Task(make_id(OWNER, number), 0, b"fn", "f", b"", 1, (), (), (), lease)


def run_of(worker, count):
    actor = make_id(OWNER, 100)
    worker.take(OWNER, CreateActor(actor, 0, b"fn", "A", b"", {}))
    run = Calls(make_id(OWNER, 200), actor, 0, 0, "m", [b"x"] * count, False)
    worker.take(OWNER, run)
    worker.loop.ready.clear()
    return run


def test_an_outcome_waits_for_the_owners_of_what_is_held_and_the_process_with_it(worker):
    ref = make_id(OTHER, 9)
    worker.machine.objects.hold(ref)
    worker.take(raylet_of(1), Retire())
    worker.loop.reply(OWNER, Done(b"t", 0, [VALUE], SHORT_US + 1), [ref])
    assert not worker.left(Done) and not worker.loop.may_end and not worker.loop.idle()
    worker.machine.handle(raylet_of(1), [BorrowAcked([ref], [1])])
    assert [dst for dst, _ in worker.left(Done)] == [OWNER]
    assert worker.loop.may_end and worker.loop.idle()


def test_an_outcome_does_not_wait_for_what_was_let_go(worker):
    ref = make_id(OTHER, 9)
    worker.machine.objects.hold(ref)
    worker.machine.dropped.append(ref)
    worker.loop.reply(OWNER, Done(b"t", 0, [VALUE], SHORT_US + 1), [ref])
    assert worker.left(Done)


def test_outcomes_of_short_tasks_travel_together_and_with_a_long_one_all_go(worker):
    for number in range(3):
        worker.loop.reply(OWNER, Done(b"%d" % number, 0, [VALUE], SHORT_US), [])
    assert not worker.sent
    worker.loop.reply(OWNER, Done(b"long", 0, [VALUE], SHORT_US + 1), [])
    assert len(worker.sent) == 4 and not worker.looks
    for number in range(REPLY_BATCH):
        worker.loop.reply(OWNER, Done(b"%d" % number, 0, [VALUE]), [])
    assert len(worker.sent) == 4 + REPLY_BATCH and worker.looks == 1


def test_the_outcome_of_a_task_that_may_run_once_only_is_sent_before_the_next_begins(worker):
    worker.loop.reply(OWNER, Done(b"t", 0, [VALUE], 1), [], once=True)
    assert [type(msg) for _, msg in worker.sent] == [Done]


def test_what_waits_is_given_back_before_a_wait_and_what_comes_during_it_too(worker):
    worker.take(OWNER, task(1), task(2))
    worker.loop.begin_wait(lend=True)
    assert {type(msg) for _, msg in worker.left()} == {GivenBack, Blocked}  # to two receivers
    worker.take(OWNER, task(3))
    assert [msg.tasks for _, msg in worker.left(GivenBack)] == [[make_id(OWNER, 3)]]
    worker.loop.end_wait()
    worker.take(OWNER, task(4))
    assert [type(msg) for _, msg in worker.left()] == [Unblocked] and len(worker.loop.ready) == 1


def test_a_task_holds_up_those_behind_it_once_it_runs_for_long(worker):
    worker.loop.task, worker.loop.began = b"t", 10.0
    assert not worker.loop.holds_up(11.0)
    worker.take(OWNER, task(1))
    assert not worker.loop.holds_up(10.0 + GIVE_BACK_S / 2)
    assert worker.loop.holds_up(10.0 + GIVE_BACK_S * 2)
    worker.loop.task = b""
    assert not worker.loop.holds_up(11.0)


def test_a_task_that_is_cancelled_in_the_queue_never_runs_and_is_answered(worker):
    worker.take(OWNER, task(1), task(2), Cancel(make_id(OWNER, 1), 0, False, False))
    assert [msg.results for _, msg in worker.left(Done)] == [[NEVER]]
    assert [msg.task for _, msg in worker.loop.ready] == [make_id(OWNER, 2)]


def test_a_process_that_is_wanted_no_more_says_so_and_ends_when_nobody_needs_it(worker):
    held = worker.machine.objects.put_inline(b"1", [])
    assert not worker.loop.idle()
    worker.take(raylet_of(1), Retire())
    assert worker.left(Cleared) and worker.loop.idle()
    worker.machine.objects.hand_over(b"t", 0, OWNER, [held])
    assert not worker.loop.idle()


def test_a_process_that_may_run_no_more_takes_nothing(worker):
    worker.take(OWNER, task(1))
    worker.loop.run_no_more()
    worker.take(OWNER, task(2))
    assert not worker.loop.ready and worker.loop.idle()
    assert [worker.loop.is_last(b"fn", 2) for _ in range(2)] == [False, True]


def test_the_calls_of_a_run_come_in_turn_and_their_values_go_together(worker):
    run = run_of(worker, 5)
    worker.loop.ready.append((OWNER, run))
    worker.take(OWNER, Cancel(make_id(OWNER, 202), 0, False, False))
    assert [msg.task for _, msg in worker.left(Done)] == [make_id(OWNER, 202)]
    worker.loop.ready.clear()
    made = []
    for name, _ in worker.loop.calls(OWNER, run):
        made.append(name)
        worker.loop.result, worker.loop.run_us = VALUE, 1
    assert made == [make_id(OWNER, 200 + at) for at in (0, 1, 3, 4)]
    assert [(msg.at, len(msg.results)) for _, msg in worker.left(CallsDone)] == [(0, 2), (3, 2)]
    assert worker.loop.executor.run is None and not worker.loop.executor.skipped


def test_the_value_of_a_call_of_a_run_is_left_for_sending_before_the_next_begins(worker):
    turns = worker.loop.calls(OWNER, run_of(worker, 3))
    next(turns)
    worker.loop.result, worker.loop.run_us = VALUE, SHORT_US + 1
    next(turns)
    assert [len(msg.results) for _, msg in worker.sent] == [1]
    worker.loop.result = None  # it was answered by itself
    next(turns)
    worker.loop.result, worker.loop.run_us = VALUE, 1
    assert next(turns, None) is None
    assert [msg.at for _, msg in worker.left(CallsDone)] == [0, 2]


def test_a_call_of_a_run_is_told_by_itself_if_more_than_an_error_is_to_be_told(worker):
    error = Result(2, b"e")
    assert goes_in_run(Done(b"t", 0, [error]))
    assert not goes_in_run(Done(b"t", 0, [error], retryable=True))
    assert not goes_in_run(Done(b"t", 0, [error], exiting=True))
    assert not goes_in_run(Done(b"t", 0, [NEVER]))


def test_an_actor_that_ends_itself_begins_nothing_more(worker):
    run = run_of(worker, 2)
    worker.loop.ready.append((OWNER, run))
    worker.loop.end_actor(run.actor, "exit")
    assert [type(msg).__name__ for _, msg in worker.loop.ready] == ["EndActor"]

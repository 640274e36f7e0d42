"""What a process may read in the arena: asked for once, pinned once, and given back when nothing needs it."""

from __future__ import annotations

import pytest

from hpc.core.ids import HEAD, Address, make_id, raylet_of
from hpc.core.owner.machine import OwnerMachine
from hpc.core.owner.pins import PROMPT_BYTES
from hpc.core.owner.tables import Waiter
from hpc.core.wire import (
    STORED,
    Abandon,
    Allocated,
    AllSealed,
    AskSealed,
    Fetch,
    FetchAll,
    Fetched,
    FetchedAll,
    Free,
    PleaseUnpin,
    Result,
    Seal,
    Unpin,
)

ME, RAYLET = Address(1, 1), raylet_of(1)
ONE, TWO = make_id(ME, 1), make_id(ME, 2)
THERE = Result(STORED, b"", 100, (2,))


class Process:
    """A machine, and what it says to its raylet."""

    def __init__(self):
        self.machine = OwnerMachine(ME)
        self.pins = self.machine.pins

    def said(self):
        self.pins.let_go()
        return [msg for _, messages in self.machine.take_outbox(everything=True) for msg in messages]

    def hears(self, *messages):
        assert not self.machine.handle(RAYLET, messages)
        return self.said()

    def reads(self, ident):
        return self.pins.fetch(ident, THERE, Waiter(1))


@pytest.fixture
def process() -> Process:
    return Process()


def test_what_several_read_is_asked_for_once_and_given_back_after_the_last_view(process):
    first, second = process.reads(ONE), process.reads(ONE)
    assert process.said() == [Fetch(ONE, 100, [2])]
    assert process.hears(Fetched(ONE, 4096, 100)) == []
    pin = first.outcome
    assert pin is second.outcome and (pin.offset, pin.size, pin.views) == (4096, 100, 2)
    assert process.machine.woken == [first.waiter, second.waiter] and not first.waiter.needed
    process.pins.unviewed.append(pin)
    assert process.said() == [] and ONE in process.pins.held
    process.pins.unviewed.append(pin)
    assert process.said() == [Unpin([ONE])] and not process.pins.held


def test_what_is_held_stays_pinned_without_views_until_it_is_let_go(process):
    process.machine.objects.own(ONE).result = THERE
    coming = process.reads(ONE)
    process.hears(Fetched(ONE, 0, 100))
    process.pins.unviewed.append(coming.outcome)
    assert Unpin([ONE]) not in process.said()
    process.machine.objects.let_go(ONE)
    assert Unpin([ONE]) in process.said()


def test_what_is_let_go_stays_pinned_while_there_is_a_view(process):
    process.machine.objects.own(ONE).result = THERE
    coming = process.reads(ONE)
    process.hears(Fetched(ONE, 0, 100))
    process.machine.objects.let_go(ONE)
    assert Unpin([ONE]) not in process.said()
    process.pins.unviewed.append(coming.outcome)
    assert process.said() == [Unpin([ONE])]


def test_a_raylet_that_needs_room_gets_all_that_has_no_view_and_the_others_when_that_ends(process):
    for ident in (ONE, TWO):
        process.machine.objects.own(ident).result = THERE
    coming = process.reads(ONE)
    process.pins.bring([(TWO, THERE)])
    process.hears(Fetched(ONE, 0, 100), Fetched(TWO, 4096, 100))
    assert process.hears(PleaseUnpin()) == [Unpin([TWO])]
    assert process.hears(PleaseUnpin()) == [Unpin([])]  # it is answered
    process.pins.unviewed.append(coming.outcome)
    assert process.said() == [Unpin([ONE])]


def test_what_nobody_waits_for_any_more_is_given_back_when_it_comes(process):
    coming = process.reads(ONE)
    process.said()
    process.pins.fetch_no_more(ONE, coming)
    assert process.hears(Fetched(ONE, 0, 100)) == [Unpin([ONE])] and not process.pins.held


def test_a_reader_that_gives_up_just_after_it_came_lets_it_go(process):
    coming = process.reads(ONE)
    process.said()
    process.hears(Fetched(ONE, 0, 100))
    process.pins.fetch_no_more(ONE, coming)
    assert process.said() == [Unpin([ONE])]


def test_a_second_pin_of_the_same_object_is_given_back_at_once(process):
    coming = process.reads(ONE)
    both = process.pins.admit({ONE: THERE, TWO: THERE}, Waiter(1))
    assert process.said() == [Fetch(ONE, 100, [2]), FetchAll(1, [ONE, TWO], [100, 100], [[2], [2]])]
    process.hears(Fetched(ONE, 0, 100))
    assert process.hears(FetchedAll(1, [ONE, TWO], [100, 100], [0, 4096])) == [Unpin([ONE])]
    assert both.outcome[0] is coming.outcome and coming.outcome.views == 2
    process.pins.unviewed.extend([*both.outcome, coming.outcome])
    assert sorted(process.said()[0].idents) == [ONE, TWO]


def test_arguments_that_are_pinned_already_are_admitted_without_a_question(process):
    process.reads(ONE)
    process.hears(Fetched(ONE, 0, 100))
    coming = process.pins.admit({ONE: THERE}, Waiter(1))
    assert not coming.waiter.needed and coming.outcome[0].views == 2 and process.said() == []


def test_an_admission_that_nobody_waits_for_any_more_is_given_back(process):
    coming = process.pins.admit({ONE: THERE, TWO: THERE}, Waiter(1))
    process.said()
    process.pins.admit_no_more(coming)
    assert process.hears(FetchedAll(1, [ONE, TWO], [100, 100], [0, 4096])) == [Unpin([ONE]), Unpin([TWO])]


def test_why_something_did_not_come_is_handed_to_each_reader_and_counts_as_an_arrival(process):
    coming, watcher, arrived = process.reads(ONE), Waiter(1), set()
    process.pins.bring([(ONE, THERE)], watcher, arrived)
    failed = Fetched(ONE, -1, 0, "lost", "node 2 is gone", [2])
    process.hears(failed)
    assert coming.outcome == failed and arrived == {ONE} and not watcher.needed and not process.pins.held


def test_all_that_wait_are_woken_without_an_outcome_when_the_session_is_gone(process):
    watcher, arrived = Waiter(2), set()
    reader, task = process.reads(ONE), process.pins.admit({ONE: THERE, TWO: THERE}, Waiter(1))
    process.pins.bring([(TWO, THERE)], watcher, arrived)
    process.pins.lose()
    assert reader.outcome is None and task.outcome is None and arrived == {TWO}
    assert process.machine.woken == [reader.waiter, task.waiter, watcher] and not watcher.needed


def test_a_value_that_was_written_is_kept_or_given_back(process):
    process.pins.sealed(ONE, 0, 100, keep=True)
    process.pins.sealed(TWO, 4096, 100, keep=False)
    process.pins.abandoned(8192, 100)
    assert list(process.pins.held) == [ONE]
    assert process.said() == [Seal(ONE, 0, 100), Seal(TWO, 4096, 100, False), Abandon(8192, 100)]


def test_values_are_placed_in_a_span_behind_each_other_and_the_rest_is_given_back(process):
    span = process.pins.span
    span.most = 16 * 4096
    assert span.place(1) == -1, "there is none yet"
    assert span.wanted(4 * 4096) == 16 * 4096 and span.wanted(4 * 4096 + 1) == 0, "a large value has room of its own"
    assert span.wanted(3 * 4096) == 15 * 4096, "nothing is left over"
    process.pins.allocated(Allocated(1, 0, "", 4096, 3 * 4096))
    assert [span.place(4096), span.place(4097), span.place(1)] == [4096, 8192, -1]
    process.pins.allocated(Allocated(2, 0, "", 40960, 4 * 4096))
    assert [span.place(1), span.place(1), span.place(3 * 4096)] == [40960, 45056, -1] and process.said() == []
    assert process.pins.ahead(17 * 4096) == 0 and process.said() == [], "it has room of its own"
    assert process.pins.ahead(3 * 4096) == 15 * 4096 and process.said() == [Abandon(49152, 2 * 4096)]
    for offset in (81920, 163840):  # two threads have asked
        process.pins.allocated(Allocated(3, 0, "", offset, 2 * 4096))
    assert process.said() == [Abandon(81920, 2 * 4096)]
    assert process.hears(PleaseUnpin()) == [Abandon(163840, 2 * 4096), Unpin([])]
    assert span.place(1) == -1


def test_a_span_in_which_nothing_is_placed_any_more_is_given_back(process):
    process.pins.allocated(Allocated(1, 0, "", 4096, 3 * 4096))
    for now in (10.0, 10.9):
        process.machine.tick(now)
        assert process.said() == []
    assert process.pins.span.place(1) == 4096
    process.machine.tick(11.5)
    process.machine.tick(12.4)
    assert process.said() == []
    process.machine.tick(12.5)
    assert process.said() == [Abandon(8192, 2 * 4096)]


def test_what_was_sealed_is_told_before_the_answer_that_all_is(process):
    process.pins.sealed(ONE, 0, 100, keep=False)
    assert process.hears(AskSealed(3)) == [Seal(ONE, 0, 100, False), AllSealed(3)]


def test_word_of_small_objects_that_are_let_go_waits_for_what_else_is_sent(process):
    for size, urgent in ((PROMPT_BYTES - 1, []), (PROMPT_BYTES, [Unpin([ONE])])):
        coming = process.reads(ONE)
        process.hears(Fetched(ONE, 4096, size))
        process.pins.unviewed.append(coming.outcome)
        process.pins.let_go()
        assert [msg for _, messages in process.machine.take_outbox() for msg in messages] == urgent
        assert ONE not in process.pins.held
        assert process.said() == ([] if urgent else [Unpin([ONE])])


def test_the_raylet_hears_of_a_value_before_anybody_else_does(process):
    other, state = Address(1, 2), process.machine.state
    for everything in (True, False):
        state.leave(other, Free([ONE]))
        state.leave(HEAD, Free([ONE]))
        process.pins.sealed(ONE, 0, 100, keep=False)
        assert [dst for dst, _ in state.take_outbox(everything)] == [HEAD, RAYLET, other]

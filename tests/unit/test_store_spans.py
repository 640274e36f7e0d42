"""Spans: parts of the arena in which processes place objects by themselves. The raylet asks for what it cannot know."""

from __future__ import annotations

import pytest

from hpc.core.ids import Address, make_id
from hpc.core.raylet.object_store import ObjectStore
from hpc.core.raylet.spill import Spiller
from hpc.core.raylet.writing import LOOK_S
from hpc.core.store.layout import ALIGN as PAGE
from hpc.core.store.layout import Layout
from hpc.core.wire import (
    Abandon,
    Alloc,
    Allocated,
    AllSealed,
    AskSealed,
    Fetch,
    FetchAll,
    Fetched,
    FetchedAll,
    Free,
    PleaseUnpin,
    Seal,
    Unpin,
)

OWNER = Address(1, 1)
PAGES = 64
SPAN = 4


class NoBytes:
    overflow_bytes = 0

    def readable(self, offset, size):
        return memoryview(bytes(size))


def ident(number):
    return make_id(OWNER, number)


def at(proc):
    return Address(1, proc)


class Node:
    """A store of some pages, of which processes are given spans of four."""

    def __init__(self, pages=PAGES):
        self.store = ObjectStore(1, Layout(pages * PAGE), NoBytes(), spiller=Spiller(1000 * PAGE))
        self.store.writing.spans_share = 2
        self.number = 100

    def take(self, kind):
        out, self.store.outbox[:] = list(self.store.outbox), []
        return [(dst.proc, msg) for dst, msg in out if isinstance(msg, kind)]

    def span(self, proc):
        """Have a process ask for room with a span beside: the span's offset, or -1. Its object is sealed and freed."""
        self.number += 1
        self.store.on_alloc(at(proc), Alloc(1, PAGE, ident(self.number), SPAN * PAGE))
        ((_, answer),) = self.take(Allocated)
        self.seal(proc, self.number, answer.offset)
        self.store.on_free(OWNER, Free([ident(self.number)]))
        assert answer.ahead == (SPAN * PAGE if answer.span >= 0 else 0)
        return answer.span

    def seal(self, proc, number, offset, pages=1):
        self.store.on_seal(at(proc), Seal(ident(number), offset, pages * PAGE, False))

    def used(self):
        self.store.layout.check()
        assert self.store.writing.span_bytes == sum(sum(s.values()) for s in self.store.writing.spans.values())
        return self.store.used_bytes // PAGE, self.store.writing.span_bytes // PAGE


def test_pieces_of_a_span_are_objects_as_others_and_the_rest_comes_back():
    node = Node()
    span = node.span(2)
    assert node.used() == (0, 4)
    node.seal(2, 1, span + PAGE, 2)
    assert node.used() == (2, 2)
    node.seal(2, 2, span)
    node.store.on_fetch(at(3), Fetch(ident(1), 2 * PAGE, [1]))
    assert node.take(Fetched) == [(3, Fetched(ident(1), span + PAGE, 2 * PAGE))]
    node.store.on_abandon(at(2), Abandon(span + 3 * PAGE, PAGE))
    assert node.used() == (3, 0) and not node.store.writing.spans
    node.store.on_free(OWNER, Free([ident(1), ident(2)]))
    assert node.used() == (2, 0), "somebody reads it"
    node.store.on_unpin(at(3), Unpin([ident(1)]))
    assert node.used() == (0, 0) and node.store.layout.largest_hole == PAGES * PAGE


@pytest.mark.parametrize(("at_page", "pages", "proc"), [(-1, 1, 2), (3, 2, 2), (4, 1, 2), (0, 1, 3), (0.5, 1, 2)])
def test_nothing_outside_of_its_span_is_a_process_to_seal_or_give_back(at_page, pages, proc):
    node = Node()
    span = node.span(2)
    before = node.used()
    node.seal(proc, 1, int(span + at_page * PAGE), pages)
    node.store.on_abandon(at(proc), Abandon(int(span + at_page * PAGE), pages * PAGE))
    assert node.used() == before and ident(1) not in node.store.stored


def test_a_process_that_ends_leaves_what_it_had_sealed_and_nothing_else():
    node = Node()
    span = node.span(2)
    node.seal(2, 1, span + PAGE)
    node.store.proc_gone(2)
    assert node.used() == (1, 0) and ident(1) in node.store.stored


def test_spans_are_given_where_there_is_much_room_only_and_asked_back_where_there_is_none():
    node = Node(16)
    assert node.span(2) >= 0 and node.span(3) >= 0
    assert node.span(4) < 0, "all together have their share"
    node = Node(16)
    for number in range(9):
        node.store.on_alloc(at(9), Alloc(number, PAGE, ident(number)))
    assert [msg.offset >= 0 for _, msg in node.take(Allocated)] == [True] * 9
    assert node.span(2) < 0, "little would stay free"
    node = Node(16)
    span = node.span(2)
    node.store.on_alloc(at(9), Alloc(7, 14 * PAGE, ident(7)))
    assert node.take((PleaseUnpin, Allocated)) == [(2, PleaseUnpin())]
    node.store.on_abandon(at(2), Abandon(span, SPAN * PAGE))
    ((_, answer),) = node.take(Allocated)
    assert answer.offset >= 0


def test_a_node_that_leaves_has_its_spans_back_before_it_is_empty():
    node = Node()
    span = node.span(2)
    assert node.store.is_written_to() and node.take(PleaseUnpin) == [(2, PleaseUnpin())]
    node.store.on_abandon(at(2), Abandon(span, SPAN * PAGE))
    assert not node.store.is_written_to()
    assert node.span(2) < 0


# ---------------------------------------------------------------- what comes before its Seal


def fetch_all(store, *numbers):
    sizes, nodes = [PAGE] * len(numbers), [[1]] * len(numbers)
    store.on_fetch_all(at(3), FetchAll(5, [ident(number) for number in numbers], sizes, nodes))


@pytest.mark.parametrize("together", [False, True])
def test_who_asks_for_an_object_before_its_seal_has_come_gets_it(together):
    node = Node()
    span = node.span(2)
    if together:
        fetch_all(node.store, 1, 2)
    else:
        node.store.on_fetch(at(3), Fetch(ident(1), PAGE, [1]))
    assert node.take((Fetched, FetchedAll, AskSealed)) == [(2, AskSealed(1))]
    node.seal(2, 1, span)
    node.seal(2, 2, span + PAGE)
    node.store.on_all_sealed(at(2), AllSealed(1))
    ((proc, answer),) = node.take((Fetched, FetchedAll))
    assert proc == 3 and not answer.cause


@pytest.mark.parametrize("dies", [False, True])
def test_an_object_is_lost_when_all_who_could_have_sealed_it_have_said_that_they_did_not(dies):
    node = Node()
    node.span(2)
    node.span(4)
    fetch_all(node.store, 1)
    assert node.take(AskSealed) == [(2, AskSealed(1)), (4, AskSealed(1))]
    node.store.on_all_sealed(at(2), AllSealed(1))
    node.store.tick(100.0)
    assert not node.take(FetchedAll), "the other may have"
    if dies:
        node.store.proc_gone(4)
    else:
        node.store.on_all_sealed(at(4), AllSealed(1))
    ((_, answer),) = node.take(FetchedAll)
    assert (answer.cause, answer.lost) == ("lost", [1])


def test_an_answer_to_an_earlier_question_does_not_count():
    node = Node()
    span = node.span(2)
    node.store.on_fetch(at(3), Fetch(ident(1), PAGE, [1]))
    node.store.on_fetch(at(3), Fetch(ident(2), PAGE, [1]))  # after the question was asked
    assert node.take(AskSealed) == [(2, AskSealed(1))]
    node.store.on_all_sealed(at(2), AllSealed(1))
    assert [msg.ident for _, msg in node.take(Fetched)] == [ident(1)]
    node.store.on_all_sealed(at(2), AllSealed(1))
    assert not node.take(Fetched)
    node.seal(2, 2, span)
    ((_, answer),) = node.take(Fetched)
    assert answer.ident == ident(2) and answer.offset == span


def test_without_spans_nobody_is_asked():
    node = Node()
    node.store.on_fetch(at(3), Fetch(ident(1), PAGE, [1]))
    ((_, answer),) = node.take((Fetched, AskSealed))
    assert answer.cause == "lost"


def test_what_its_owner_has_freed_before_its_seal_came_is_freed_with_it():
    node = Node()
    span = node.span(2)
    node.store.on_free(OWNER, Free([ident(1), ident(2)]))
    node.seal(2, 1, span)
    assert node.used() == (0, 3)
    node.store.tick(LOOK_S)
    assert node.take(AskSealed) == [(2, AskSealed(1))]
    node.store.on_all_sealed(at(2), AllSealed(1))
    assert not node.store.writing.freed_perhaps, "of the other it is known that it was not written"
    node.store.on_free(OWNER, Free([ident(3)]))
    node.store.proc_gone(2)
    node.store.tick(2 * LOOK_S)
    assert not node.store.writing.freed_perhaps

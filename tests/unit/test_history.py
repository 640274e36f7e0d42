"""What a raylet keeps of what its workers have run: bounds, counts and pages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc.core.events.rows import unpack_page
from hpc.core.ids import Address
from hpc.core.raylet import history
from hpc.core.wire import HistoryQuery, Ran

WORKER = Address(1, 3)


def kept(sizes: list[int], most_events: int = 200_000, most_bytes: int = 64 << 20) -> history.History:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history, "MAX_EVENTS", most_events)
        patch.setattr(history, "MAX_BYTES", most_bytes)
        found = history.History(1, [])
        for number, size in enumerate(sizes):
            found.on_ran(WORKER, Ran(bytes([number]) * size, size, number))
    return found


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 100), st.integers(1, 100))
def test_the_newest_are_kept_within_bounds_and_what_goes_is_counted(sizes, most_events, most_bytes):
    found = kept(sizes, most_events, most_bytes)
    page = found.page(HistoryQuery(1))
    assert found.events + found.dropped == sum(sizes) + sum(range(len(sizes)))
    assert (found.events <= most_events and found.size_bytes <= most_bytes) or len(page.batches) == 1
    assert [len(one.data) for one in page.batches] == sizes[::-1][: len(page.batches)]
    assert (page.events, page.dropped, page.more) == (found.events, found.dropped, False)
    assert not sizes or page.batches[-1].serial == page.oldest


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 200), st.integers(0, 30))
def test_pages_bring_all_that_came_since_once(sizes, page_bytes, since):
    found = kept(sizes)
    serials: list[int] = []
    before = 0
    for _ in range(len(sizes) + 1):
        page = found.page(HistoryQuery(1, since, before, page_bytes))
        assert sum(len(one.data) for one in page.batches) <= page_bytes or len(page.batches) == 1
        serials += [one.serial for one in page.batches]
        if not page.more:
            break
        before = page.batches[-1].serial
    assert serials == [*range(len(sizes), since, -1)]


def test_a_question_is_answered_by_its_number_and_others_workers_are_not_believed():
    found = kept([5])
    found.on_ran(Address(2, 3), Ran(b"x", 1))
    found.on_ran(WORKER, Ran(b"x" * (history.MAX_BATCH_BYTES + 1), 7))
    found.on_query(Address(4, 2), HistoryQuery(9))
    ((dst, answer),) = found._outbox
    page = unpack_page(answer.data)
    assert (dst, answer.req, answer.ok) == (Address(4, 2), 9, True)
    assert [(one.serial, one.proc) for one in page.batches] == [(1, 3)] and page.dropped == 7

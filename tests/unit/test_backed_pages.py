"""The set of pages that are backed by memory, beside a set of numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hpc.core.store.backed_pages import PAGE_BYTES, BackedPages

RANGES = st.lists(st.tuples(st.integers(0, 40 * PAGE_BYTES), st.integers(1, 6 * PAGE_BYTES)), max_size=30)


def pages(offset, size):
    return set(range(offset // PAGE_BYTES, (offset + size - 1) // PAGE_BYTES + 1))


@given(RANGES, RANGES)
def test_it_covers_what_was_added_and_nothing_else(added, asked):
    backed, known = BackedPages(), set()
    for offset, size in added:
        backed.add(offset, size)
        known |= pages(offset, size)
        assert backed.covers(offset, size)
    for offset, size in asked:
        assert backed.covers(offset, size) == (pages(offset, size) <= known)
    runs = sum(1 for page in known if page - 1 not in known)
    assert len(backed) == runs, "intervals that touch are one"


def test_an_empty_set_covers_nothing():
    assert not BackedPages().covers(0, 1)

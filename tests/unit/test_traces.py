"""The ids of traces and spans, and W3C's text of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc.core.events.traces import Trace, parsed, session_span, task_span, trace_of, traceparent

GIVEN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_traceparent_is_read():
    assert parsed(GIVEN) == Trace(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, True)
    found = parsed(GIVEN[:-1] + "0")
    assert found is not None and not found.is_sampled
    assert parsed(f"cc{GIVEN[2:]}-what-is-new") is not None, "a later version may have more"


NONE = [
    "", "00", GIVEN[:-3], f"ff{GIVEN[2:]}", f"cc{GIVEN[2:]}7", GIVEN.upper(), f"{GIVEN}-more", GIVEN.replace("-", "_"),
    GIVEN.replace("b7ad6b7169203331", "0" * 16), GIVEN.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32),
]  # fmt: skip


@pytest.mark.parametrize("text", NONE)
def test_what_is_none_is_none(text):
    assert parsed(text) is None
    assert trace_of("abc", {"TRACEPARENT": text}) == trace_of("abc", {})


def test_all_processes_find_the_same_ids_and_tasks_have_their_own():
    assert trace_of("abc", {}) == trace_of("abc", {}) != trace_of("abd", {})
    assert trace_of("abc", {"TRACEPARENT": GIVEN}).above == 0xB7AD6B7169203331
    spans = {task_span("abc", "00", 0), task_span("abc", "00", 1), task_span("abc", "01", 0), session_span("abc")}
    assert len(spans) == 4 and 0 not in spans


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans())
def test_what_is_written_is_read(trace, span, is_sampled):
    assert parsed(traceparent(Trace(trace, 0, is_sampled), span)) == Trace(trace, span, is_sampled)

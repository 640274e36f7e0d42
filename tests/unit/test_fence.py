"""When a raylet ends its node, and when a supervisor gives up a child: the pure parts, on a clock of the test."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc.core.node.pulse import Pulse
from hpc.core.node.settings import setting
from hpc.core.raylet.fence import PATIENCE, Fence


def turns(fence: Fence, begin: float, end: float) -> str:
    """The raylet's turns from one time to another, a second between them: what the fence says at the end."""
    while begin < end:
        fence.why(begin)
        begin += 1.0
    return fence.why(end)


def test_the_fence_counts_from_the_last_report_that_was_heard():
    fence = Fence(45.0)
    first, second = fence.report(0.0), fence.report(1.0)
    fence.acked(first)
    assert not turns(fence, 1.0, 45.0)
    assert "no answer from the head for 45 s" in fence.why(45.1)
    fence.acked(second)
    assert not fence.why(500.0)  # nothing is unanswered: the raylet itself was away
    fence.report(500.0)
    assert not turns(fence, 500.0, 500.0 + 45 * PATIENCE)
    assert turns(fence, 506.0, 501.0 + 45 * PATIENCE)


def test_a_raylet_that_was_stopped_with_a_report_on_its_way_waits_for_the_answer():
    fence = Fence(45.0)
    beat = fence.report(0.0)
    assert not fence.why(500.0)
    assert not turns(fence, 500.0, 503.0)
    fence.acked(beat)
    assert not turns(fence, 503.0, 600.0)
    fence.report(600.0)
    assert turns(fence, 600.0, 700.0)


def test_an_answer_that_comes_late_counts_for_its_own_report():
    fence = Fence(45.0)
    beats = [fence.report(float(at)) for at in range(30)]
    fence.acked(beats[2])  # 27 s on its way
    for at in range(30, 48):
        fence.report(float(at))
    assert fence.why(47.5)
    fence.acked(beats[1])  # older news
    assert fence.why(47.5)


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=60),
    st.integers(0, 3000),
)
def test_the_node_has_ended_before_the_head_buries_it(delays, cut_at):
    """Any delays there and back, and a cut of the way there for good: the fence falls before the head's dead_s."""
    fence, fence_s, dead_s = Fence(45.0), 45.0, 60.0
    arrivals, acks, there, back = [], [], 0.0, 0.0
    for at in range(400):
        out_s, in_s = delays[at % len(delays)]
        beat = fence.report(float(at))
        there = max(there, at + out_s)  # in order
        if there < cut_at / 10:
            arrivals.append(there)
            back = max(back, there + in_s)
            acks.append((back, beat))
        while acks and acks[0][0] <= at:
            fence.acked(acks.pop(0)[1])
        if fence.why(float(at)):
            break
        if arrivals or at > dead_s:
            assert at <= max([a for a in arrivals if a <= at], default=0.0) + dead_s
    assert fence_s < dead_s


def test_a_child_is_given_up_after_nine_turns_without_an_answer():
    pulse = Pulse(10.0, 0.0)
    assert pulse.turn(0.5) == ""
    assert pulse.turn(1.0) == "ask"
    said = [pulse.turn(float(at)) for at in range(2, 11)]
    assert said == [""] * 8 + ["hung"]


def test_a_child_that_answers_late_lives():
    pulse = Pulse(10.0, 0.0)
    for begin in range(1, 90, 9):
        assert pulse.turn(float(begin)) == "ask"
        assert {pulse.turn(float(begin + n)) for n in range(1, 9)} == {""}
        pulse.answered()


def test_time_in_which_the_supervisor_did_not_run_does_not_count():
    pulse = Pulse(10.0, 0.0)
    assert pulse.turn(1.0) == "ask"
    assert pulse.turn(1000.0) == "" and pulse.turn(1000.5) == "" and pulse.turn(1001.0) == ""


@pytest.mark.parametrize("value", [0.5, -1, float("nan"), float("inf")])
def test_times_that_make_no_sense_are_refused(value):
    with pytest.raises(ValueError, match="head_hang_s"):
        setting("head_hang_s", {"head_hang_s": value})
    assert setting("head_hang_s", {"head_hang_s": 0}) == 0 and setting("head_hang_s", {}) == 15

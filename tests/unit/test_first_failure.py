"""Of ranks that fail together, the cause is shown and not those that only lost it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc.core.policy.first_failure import FailedRank, follows, in_order
from hpc.launchers.rank_lines import HOLD_S, HeldLines

CLOSED = "RuntimeError: [/gloo/transport/tcp/pair.cc:561] Connection closed by peer [10.0.0.1]:43170. This is typical"
RESET = "ConnectionResetError: [Errno 104] Connection reset by peer"


@pytest.mark.parametrize(
    "words",
    [
        CLOSED,
        RESET,
        "torch.distributed.DistBackendError: NCCL error: remote process exited or there was a network error",
        "BrokenPipeError: [Errno 32] Broken pipe",
        "hpc.collective.errors.CollectiveError: rank 1 (nid3) has died",
        f"Traceback (most recent call last):\n  File 'x.py', line 3\n{CLOSED}\n\n",
    ],
)
def test_words_about_a_peer_that_has_gone_are_known(words: str):
    assert follows(words)


def test_a_program_that_only_mentions_a_connection_early_is_no_victim():
    words = f"warning: {RESET}; trying again\nTraceback (most recent call last):\n  File 'x.py'\n    f()\nKeyError: 1"
    assert not follows(words)
    assert not follows("")


def test_the_cause_comes_first_though_its_victims_were_heard_of_sooner():
    failed = [FailedRank(0, 10.0, CLOSED), FailedRank(2, 10.1, RESET), FailedRank(1, 10.2, "KeyError: 'weight'")]
    assert [one.rank for one in in_order(failed)] == [1, 0, 2]


@given(
    st.lists(
        st.builds(FailedRank, st.integers(0, 99), st.floats(0, 1e9), st.sampled_from(["", "KeyError: 1", CLOSED])),
        unique_by=lambda one: one.rank,
    ),
    st.randoms(),
)
def test_the_order_in_which_failures_are_heard_of_does_not_matter(failed, random):
    shuffled = list(failed)
    random.shuffle(shuffled)
    assert in_order(shuffled) == in_order(failed)
    causes = [one for one in failed if not follows(one.words)]
    assert not causes or in_order(failed)[0] == min(causes, key=lambda one: (one.at, one.rank))


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(1, 2), st.sampled_from(["Traceback (most recent call last):", "x"]))
    )
)
def test_every_line_that_is_held_back_comes_out_once_and_in_order(lines):
    held, shown = HeldLines(), {rank: [] for rank in range(3)}
    for number, (rank, fd, text) in enumerate(lines):
        if not held.take(rank, fd, f"{text} {number}", float(number)):
            shown[rank].append((fd, f"{text} {number}"))
        for one, line in held.due(float(number)):
            shown[one].append((2, line))
    held.keep(0)
    assert all(rank != 0 for rank, _ in held.due(len(lines) + HOLD_S))
    shown[0] += [(2, line) for line in held.all_of(0)]
    held = {rank: [line for fd, line in of if fd == 2] for rank, of in shown.items()}
    assert held[0] == [f"{text} {n}" for n, (rank, fd, text) in enumerate(lines) if (rank, fd) == (0, 2)]


def test_a_rank_that_goes_on_after_a_traceback_is_shown_as_it_wrote():
    held = HeldLines()
    assert not held.take(0, 2, "all is well", 0.0)
    assert not held.take(0, 1, "Traceback (most recent call last):", 0.0)
    assert held.take(0, 2, "[rank0]: Traceback (most recent call last):", 0.0)
    assert held.take(0, 2, "[rank0]: KeyError: 1", 0.0)
    assert not held.take(1, 2, "another rank's", 0.0)
    assert held.due(HOLD_S / 2) == []
    assert [line for _, line in held.due(HOLD_S)] == [
        "[rank0]: Traceback (most recent call last):",
        "[rank0]: KeyError: 1",
    ]
    assert not held.take(0, 2, "going on", HOLD_S)

"""Where ranks are: reports that begin together and are complete in their order, collective calls, and uneven ones."""

from __future__ import annotations

import pytest

from hpc.train.events import Asked, Brought, Gone, Joined, Reported, Returned
from hpc.train.rounds import PREEMPTION_INFO, Rounds, Uneven


def begun(rounds, number, way=None, waits=True):
    """All ranks are in this report."""
    met = None
    for rank in range(rounds.world):
        met = rounds.take(rank, Reported(number, {}, way, waits=waits))
    met.begun = True
    return met


def completed(rounds):
    found = []
    while (one := rounds.next_complete()) is not None:
        found.append(one.number)
    return found


def test_a_report_begins_when_all_ranks_are_in_it():
    rounds = Rounds(2)
    assert rounds.take(1, Reported(1, {"a": 1})) is None
    assert not rounds.may_speak(1)
    assert rounds.may_speak(0)
    met = rounds.take(0, Reported(1, {"a": 0}))
    assert [one.metrics["a"] for one in met.reports.values()] == [0, 1]
    assert completed(rounds) == []  # the driver has not begun it yet
    met.begun = True
    assert completed(rounds) == [1]
    assert rounds.may_speak(1)


def test_reports_are_complete_in_their_order():
    rounds = Rounds(2)
    begun(rounds, 1, "files", waits=False)
    begun(rounds, 2)
    assert completed(rounds) == []
    begun(rounds, 3, "files", waits=False)
    for rank in range(2):
        rounds.take(rank, Brought(3))
    rounds.take(0, Brought(1))
    assert completed(rounds) == []
    assert not rounds.is_over
    rounds.take(1, Brought(1))
    assert completed(rounds) == [1, 2, 3]


def test_a_rank_that_waits_can_still_bring_files():
    rounds = Rounds(2)
    begun(rounds, 1, "files", waits=False)
    rounds.take(0, Joined(1, "barrier"))
    assert rounds.may_speak(0)
    rounds.take(0, Brought(1))
    assert not rounds.may_speak(0)
    rounds.take(1, Brought(1))
    assert [one.what for one in rounds.take(1, Joined(1, "barrier"))] == ["barrier", "barrier"]
    for rank in range(2):
        rounds.take(rank, Returned(None))
    assert completed(rounds) == [1]
    assert rounds.is_over


def test_only_parts_that_are_brought_beside_the_training_let_ranks_go_on():
    rounds = Rounds(2)
    rounds.take(0, Reported(1, {}, "files", waits=False))
    assert not rounds.take(1, Reported(1, {})).waits
    rounds = Rounds(2)
    rounds.take(0, Reported(1, {}, "files"))
    assert rounds.take(1, Reported(1, {})).waits


def test_checkpoints_are_told_when_the_reports_are_complete():
    rounds = Rounds(1)
    begun(rounds, 1, "files", waits=False)
    rounds.take(0, Asked(1, 1, False))
    rounds.take(0, Asked(2, 1, True))
    rounds.take(0, Asked(3, 0, False))
    assert [one.number for _, one in rounds.answerable(False)] == [3]
    rounds.take(0, Brought(1))
    completed(rounds)
    assert [one.number for _, one in rounds.answerable(True)] == [1]
    assert [one.number for _, one in rounds.answerable(False)] == [2]
    assert rounds.answerable(False) == []


@pytest.mark.parametrize(
    ("first", "second", "text"),
    [
        (Returned(None), Reported(2, {}), "rank 1 waits in its report number 2, but rank 0 has returned"),
        (Reported(1, {}), Joined(1, "barrier"), r"rank 0 waits in its report number 1, but rank 1 in barrier\(\)"),
        (Joined(1, "barrier"), Joined(2, "barrier"), "call number 1, but rank 1 in .* call number 2"),
        (Reported(1, {}), Reported(2, {}), "report number 1, but rank 1 in its report number 2"),
    ],
)
def test_ranks_that_would_wait_for_ever_are_an_error(first, second, text):
    rounds = Rounds(2)
    rounds.take(0, first)
    with pytest.raises(Uneven, match=text):
        rounds.take(1, second)


def test_a_report_does_not_wait_for_ranks_that_are_gone_where_that_was_asked_for():
    for relaxed in (False, True):
        rounds = Rounds(3, relaxed)
        assert rounds.take(0, Reported(1, {})) is None
        assert rounds.take(2, Gone()) is None
        assert not rounds.may_speak(2)
        met = rounds.take(1, Reported(1, {}))
        assert (met is not None and set(met.reports) == {0, 1}) is relaxed
    assert rounds.take(0, Joined(1, PREEMPTION_INFO)) is None
    assert [one.number for one in rounds.take(1, Joined(1, PREEMPTION_INFO))] == [1, 1]
    for rank in (0, 1):
        assert rounds.take(rank, Joined(2, "barrier")) is None, "ranks use what others give there"


def test_nothing_goes_on_without_rank_0_whose_metrics_are_kept():
    rounds = Rounds(2, relaxed=True)
    rounds.take(0, Gone())
    assert rounds.take(1, Reported(1, {})) is None


def test_a_checkpoint_lacks_the_part_of_a_rank_that_has_gone_with_it_and_is_none():
    rounds = Rounds(2)
    begun(rounds, 1, "files")
    rounds.take(0, Brought(1))
    rounds.take(1, Gone())
    assert rounds.next_complete().brought[1].failure == "its node was taken away"
    rounds.take(0, Returned(None))
    assert rounds.is_over

"""What a process counts: tasks by name, many at a time, and what its sources say has changed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc.core.metrics import tally as module
from hpc.core.metrics.merge import MAX_SETS, OTHER
from hpc.core.metrics.sample import HISTOGRAM, Sample, counted, gauge
from hpc.core.metrics.table import TASK_SECONDS, TASKS_FINISHED, TASKS_UNFINISHED
from hpc.core.metrics.tally import Tally


@pytest.fixture(autouse=True)
def no_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "sources", [])


def event(name: str, run_us: int, kind: int = 0) -> tuple[object, ...]:
    return (b"t", 0, name, 1.0, run_us, kind, None, b"")


def told(tally: Tally, now: float = 0.0) -> dict[tuple[str, ...], Sample]:
    news = tally.news(now)
    assert news is not None
    return {(one.name, *one.labels): one for one in news.samples}


def test_events_are_counted_by_name_outcome_and_time():
    tally = Tally()
    tally.fold([event("a", 5), event("a", 20_000, 2), event("b", 7_000_000, 1)])
    tally.fold([event("a", 5)])
    found = told(tally)
    assert found[TASKS_FINISHED, "name", "a", "outcome", "ok"].total == 2
    assert found[TASKS_FINISHED, "name", "a", "outcome", "failed"].total == 1
    assert found[TASKS_FINISHED, "name", "b", "outcome", "ok"].total == 1
    times = found[TASK_SECONDS, "name", "a"]
    assert times.count == 3 and times.total == pytest.approx(0.02001) and times.bins[0] == 2
    slow = found[TASK_SECONDS, "name", "b"]
    assert [end for end, count in zip(slow.bounds, slow.bins) if count] == [10.0]
    assert tally.news(2.0) is None, "nothing has changed"


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from([0, 1, 10, 11, 500, 10**10]), st.integers(0, 3)), max_size=12
    ),
    st.booleans(),
)
def test_counting_many_at_a_time_is_counting_one_by_one(events, is_short):
    if is_short:
        events = [("a", min(run_us, 10), kind) for _, run_us, kind in events]
    whole, single = Tally(), Tally()
    whole.fold([event(*one) for one in events])
    for one in events:
        single.fold([event(*one)])
    assert whole.ended == single.ended and sum(whole.ended.values()) == len(events)
    assert set(whole.times) == set(single.times)
    for name, (bins, total) in whole.times.items():
        assert bins == single.times[name][0] and total == pytest.approx(single.times[name][1])
        us = [run_us for one, run_us, _ in events if one == name]
        assert bins[0] == sum(one <= 10 for one in us) and total == pytest.approx(sum(us) / 1e6)
    failed = sum(kind > 1 for _, _, kind in events)
    assert sum(count for (_, outcome), count in whole.ended.items() if outcome == "failed") == failed


def test_a_time_at_a_bound_is_below_it():
    tally = Tally()
    tally.fold([event("a", 10), event("a", 11)])
    assert told(tally)[TASK_SECONDS, "name", "a"].bins[:2] == [1, 1]


def test_names_beyond_the_limit_count_together():
    tally = Tally()
    tally.fold([event(f"name{number}", 1) for number in range(1000)])
    found = told(tally)
    assert len([key for key in found if key[0] == TASKS_FINISHED]) == MAX_SETS
    assert found[TASKS_FINISHED, "name", OTHER, "outcome", "ok"].total == 1000 - (MAX_SETS - 1)


def test_a_gauge_is_told_when_it_has_changed():
    tally = Tally()
    assert tally.news(0.0, [gauge(TASKS_UNFINISHED, 0)]) is None
    first = tally.news(2.0, [gauge(TASKS_UNFINISHED, 3)])
    assert first is not None and first.samples[0].total == 3
    assert tally.news(4.0, [gauge(TASKS_UNFINISHED, 3)]) is None
    last = tally.news(6.0, [gauge(TASKS_UNFINISHED, 0)])
    assert last is not None and last.samples[0].total == 0


def test_sources_are_asked(monkeypatch):
    monkeypatch.setattr(module, "sources", [lambda: [counted("mine", 2)]])
    assert told(Tally())[("mine",)].total == 2


def test_what_no_raylet_would_take_is_not_sent_and_counted(monkeypatch):
    samples = [counted("mine", 2), counted("mine", 1, ("text", "x" * (65 << 20))), Sample("h", HISTOGRAM, bins=[1, 2])]
    monkeypatch.setattr(module, "sources", [lambda: samples])
    news = Tally().news(0.0)
    assert news is not None and news.samples == [counted("mine", 2)] and news.dropped == 2

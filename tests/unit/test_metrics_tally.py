"""What a process counts: tasks by name, and what its sources say has changed."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc.core.metrics import tally as module
from hpc.core.metrics.merge import MAX_SETS, OTHER, Merged
from hpc.core.metrics.sample import HISTOGRAM, Sample, counted, gauge
from hpc.core.metrics.table import TASK_BOUNDS_S, TASK_SECONDS, TASKS_FINISHED, TASKS_UNFINISHED
from hpc.core.metrics.tally import SHORTEST_US, Tally


@pytest.fixture(autouse=True)
def no_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "sources", [])


def run(tally: Tally, name: str, run_us: int, kind: int = 0) -> None:
    """A task has ended in a worker that runs one after the other (see `hpc.core.worker.main`)."""
    mine = tally.named(name)
    if kind or run_us > SHORTEST_US:
        mine.note(run_us, kind)
    else:
        mine.short += 1
        mine.short_us += run_us


def told(tally: Tally, now: float = 0.0) -> dict[tuple[str, ...], Sample]:
    news = tally.news(now)
    assert news is not None
    return {(one.name, *one.labels): one for one in news.samples}


def test_tasks_are_counted_by_name_outcome_and_time():
    tally = Tally()
    for name, run_us, kind in (("a", 5, 0), ("a", 20_000, 2), ("b", 7_000_000, 1), ("a", 5, 0)):
        run(tally, name, run_us, kind)
    found = told(tally)
    assert found[TASKS_FINISHED, "name", "a", "outcome", "ok"].total == 2
    assert found[TASKS_FINISHED, "name", "a", "outcome", "failed"].total == 1
    assert found[TASKS_FINISHED, "name", "b", "outcome", "ok"].total == 1
    times = found[TASK_SECONDS, "name", "a"]
    assert times.count == 3 and times.total == pytest.approx(0.02001) and times.bins[0] == 2
    slow = found[TASK_SECONDS, "name", "b"]
    assert [end for end, count in zip(slow.bounds, slow.bins) if count] == [10.0]
    assert tally.news(2.0) is None, "nothing has changed"
    run(tally, "a", 7)
    assert told(tally)[TASK_SECONDS, "name", "a"].total == pytest.approx(7e-6)


@given(
    st.lists(
        st.tuples(
            st.sampled_from("ab"), st.sampled_from([0, 1, 10, 11, 500, 10**10]), st.integers(0, 3), st.integers(0, 3)
        ),
        max_size=20,
    )
)
def test_each_task_counts_once_whenever_it_is_told(events):
    """Of threads that make calls (1), before a look at what was appended (2), and before it is told (3)."""
    tally, whole = Tally(), Merged()
    for name, run_us, kind, how in events:
        (tally.note if how == 1 else partial(run, tally))(name, run_us, kind)
        if how == 2:
            tally.settle()
        news = tally.news(0.0) if how == 3 else None
        whole.add_all(news.samples if news is not None else ())
    news = tally.news(0.0)
    whole.add_all(news.samples if news is not None else ())
    for name in "ab":
        us = [run_us for one, run_us, _, _ in events if one == name]
        found = whole.samples.get((TASK_SECONDS, ("name", name)))
        assert (found is not None) == bool(us)
        if found is not None:
            assert found.count == len(us) and found.total == pytest.approx(sum(us) / 1e6)
            ends = [bound * 1e6 for bound in TASK_BOUNDS_S]
            bins = [sum(one <= end for one in us) for end in (*ends, float("inf"))]
            assert [sum(found.bins[: at + 1]) for at in range(len(bins))] == bins
        for outcome, is_it in (("failed", lambda kind: kind > 1), ("ok", lambda kind: kind <= 1)):
            count = sum(one == name and is_it(kind) for one, _, kind, _ in events)
            there = whole.samples.get((TASKS_FINISHED, ("name", name, "outcome", outcome)))
            assert (0 if there is None else there.total) == count


def test_a_thread_may_read_what_another_counts_between_its_two_steps():
    """The count and the time of a task are added one after the other: neither is lost, nor told twice."""
    tally = Tally()
    mine = tally.named("a")
    mine.short += 1
    assert told(tally)[TASK_SECONDS, "name", "a"].total == 0.0
    mine.short_us += 5
    assert tally.news(2.0) is None, "the time of a task that is counted already waits for the next one"
    mine.short += 1
    mine.short_us += 6
    found = told(tally)[TASK_SECONDS, "name", "a"]
    assert (found.count, found.total) == (1, pytest.approx(11e-6))


def test_names_beyond_the_limit_count_together():
    tally = Tally()
    for number in range(1000):
        run(tally, f"name{number}", 1)
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

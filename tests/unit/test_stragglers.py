"""Slow ranks are told from those that wait for them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hpc.train.stragglers import FACTOR, SHARE, WINDOW_SAMPLES, WINDOWS, Stragglers, slow_ranks


def windows(busy: dict[int, list[float]], samples: int = 100) -> list[dict[int, tuple[int, int]]]:
    """The counts of ranks that were at work for these shares of successive windows."""
    rounds = [dict.fromkeys(busy, (0, 0))]
    for number in range(len(next(iter(busy.values())))):
        before = rounds[-1]
        rounds.append(
            {r: (before[r][0] + samples, before[r][1] + round(samples * (1 - busy[r][number]))) for r in busy}
        )
    return rounds


@given(st.integers(2, 40), st.floats(0.05, 1.0), st.randoms())
def test_ranks_that_differ_by_less_than_the_threshold_are_never_named(world, busy, random):
    shares = {rank: min(1.0, busy * random.uniform(1.0, FACTOR - 0.01)) for rank in range(world)}
    assert slow_ranks(shares) == []


@given(st.integers(2, 40), st.integers(0, 39), st.floats(0.1, 0.8))
def test_a_rank_that_is_much_more_at_work_is_named_and_no_other(world, slow, others):
    slow %= world
    shares = dict.fromkeys(range(world), others) | {slow: max(others + SHARE, others * FACTOR) + 0.01}
    assert [one.rank for one in slow_ranks(shares)] == [slow]


@given(st.dictionaries(st.integers(0, 9), st.floats(0, 1), min_size=1), st.randoms())
def test_who_is_slow_does_not_depend_on_how_ranks_are_numbered(shares, random):
    names = list(shares)
    random.shuffle(names)
    renamed = dict(zip(shares, names))
    found = {renamed[one.rank] for one in slow_ranks(shares)}
    assert {one.rank for one in slow_ranks({renamed[r]: share for r, share in shares.items()})} == found


def test_a_rank_is_named_once_when_it_was_slow_in_several_windows_in_a_row():
    watch = Stragglers()
    busy = {0: [0.5] * 8, 1: [1.0] * 8, 2: [0.5] * 8}
    named = [watch.add(counts) for counts in windows(busy)]
    assert [[one.rank for one in found] for found in named] == [[]] * WINDOWS + [[1]] + [[]] * (8 - WINDOWS)
    (slow,) = named[WINDOWS]
    assert slow.factor == 2.0 and "100 % of the time, and the others for 50 %" in slow.words()


def test_one_slow_window_now_and_then_is_no_straggler():
    watch = Stragglers()
    busy = {0: [0.5] * 12, 1: [1.0, 1.0, 0.5] * 4}
    assert not any(watch.add(counts) for counts in windows(busy))


def test_a_window_is_long_enough_to_mean_something():
    watch = Stragglers()
    busy = {0: [0.5] * 9, 1: [1.0] * 9}
    assert not any(watch.add(counts) for counts in windows(busy, WINDOW_SAMPLES // 9))

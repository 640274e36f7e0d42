"""The head keeps the course of metrics in three steps, within a bound; its clients make rates and bands of it."""

from __future__ import annotations

import math

from hpc.core.metrics.merge import Key
from hpc.core.metrics.sample import Sample, counted, gauge, merged
from hpc.core.metrics.series import GONE_S, MAX_NUMBERS, STEPS, Series
from hpc.state.metrics import _rates

C: Key = ("c", ())
G: Key = ("g", ())


def fill(series: Series, seconds: float, every_s: float = 2.0, begin: float = 0.0) -> float:
    now = begin
    while now < begin + seconds:
        now += every_s
        if series.is_due(now):
            band = merged(gauge("g", now), gauge("g", now + 10))
            series.add(now, {C: Sample("c", 0, (), now * 3), G: band})
    return now


def test_each_step_keeps_its_last_times():
    series = Series()
    now = fill(series, 5000)
    fine, minutes, tens = series.rings
    assert len(fine.times) == STEPS[0][1] and max(fine.times) == now and min(fine.times) == now - 2 * 299
    assert 82 <= len(minutes.times) <= 83 and 7 <= len(tens.times) <= 8
    places = fine.since(now - 100)
    assert [fine.times[at] for at in places] == [now - 98 + 2 * number for number in range(50)]
    assert fine.column(C, 0, places)[-1] == now * 3


def test_a_coarse_time_has_the_ends_of_its_minute():
    series = Series()
    fill(series, 1000)
    ring = series.rings[1]
    place = list(ring.order())[-1]
    low, high = ring.column(G, 0, [place])[0], ring.column(G, 4, [place])[0]
    assert high - low == 10 + 58 and ring.column(C, 0, [place])[0] == ring.times[place] * 3


def test_a_counter_that_is_seen_first_was_nothing_before_and_a_gauge_was_not_there():
    series = Series()
    series.add(0.0, {})
    series.add(2.0, {C: counted("c", 8), G: gauge("g", 1.0)})
    ring = series.rings[0]
    assert ring.column(C, 0, [0, 1]) == [0.0, 8.0]
    assert math.isnan(ring.column(G, 0, [0])[0]) and ring.column(G, 0, [1]) == [1.0]


def test_a_gauge_that_is_gone_has_a_gap():
    series = Series()
    series.add(0.0, {G: gauge("g", 1.0)})
    series.add(2.0, {})
    assert math.isnan(series.rings[0].column(G, 2, [1])[0])


def test_there_is_room_for_so_many_numbers_and_what_has_none_is_counted():
    series = Series()
    samples = [gauge("g", 1.0, ("n", str(number))) for number in range(400)]
    series.add(0.0, {(one.name, one.labels): one for one in samples})
    assert len(series.kinds) == MAX_NUMBERS // 7 and len(series.dropped) == 400 - MAX_NUMBERS // 7


def test_a_rate_is_of_what_was_added_also_after_a_new_beginning():
    rates = _rates([0.0, 2.0, 4.0, 6.0], [10.0, 30.0, 8.0, math.nan])
    assert math.isnan(rates[0]) and rates[1:3] == [10.0, 4.0] and math.isnan(rates[3])


def test_a_series_that_is_long_gone_makes_room_for_another():
    series = Series()
    full = MAX_NUMBERS // 7

    def tell(now: float, names: range) -> None:
        samples = [gauge("g", 1.0, ("n", str(number))) for number in names]
        series.add(now, {(one.name, one.labels): one for one in samples})

    tell(0.0, range(full))
    tell(2.0, range(10, full + 5))
    assert len(series.dropped) == 5, "what was there a moment ago keeps its room"
    tell(GONE_S + 1, range(10, full + 5))
    assert len(series.kinds) == full and ("g", ("n", str(full + 4))) in series.kinds
    assert len(series.kinds.keys() & {("g", ("n", str(number))) for number in range(10)}) == 5
    assert all(ring.tracks.keys() <= series.kinds.keys() for ring in series.rings)
    assert series.numbers == 7 * len(series.kinds) and series.seen.keys() == series.kinds.keys()


def test_a_series_that_comes_back_makes_room_for_nobody():
    series = Series()
    full = MAX_NUMBERS // 7
    keys: list[Key] = [("g", ("n", str(number))) for number in range(full + 5)]

    def tell(now: float, names: list[Key]) -> None:
        series.add(now, {key: gauge("g", 1.0, ("n", key[1][1])) for key in names})

    tell(0.0, keys[:full])
    tell(GONE_S - 10, keys[10:full])
    tell(GONE_S + 1, keys[5:])
    assert set(series.kinds) == set(keys[5:])
    assert all(set(ring.tracks) <= set(keys[5:]) for ring in series.rings)

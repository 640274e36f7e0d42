"""Curves in bounded memory, what a session has spent, its course from several steps, and tasks counted by name."""

from __future__ import annotations

import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc.core.metrics.table import RESOURCES, TASK_SECONDS, TASKS_FINISHED, WORKERS
from hpc.runs.thinned import Thinned
from hpc.runs.thinned import __file__ as thinned_file
from hpc.state.course import joined, lines_of, thinned
from hpc.state.metrics import Band, MetricRow, SeriesRow
from hpc.state.named import by_name, quantile
from hpc.state.spend import Point, points_of, spend
from hpc.tune.courses import MAX_CURVES, MAX_STEPS, Courses, left_s


@given(st.integers(0, 3000), st.integers(2, 40))
def test_a_curve_has_its_ends_and_no_more_points_than_it_may(count, most):
    curve = Thinned(most)
    for x in range(count):
        curve.add(float(x), -float(x))
    xs, ys = curve.points()
    assert len(xs) <= most + 1 and xs == sorted(xs) and ys == [-x for x in xs]
    assert not count or xs[-1] == count - 1
    assert count <= most or len(xs) >= most // 2


def test_a_curve_that_goes_on_from_an_earlier_point_has_none_behind_it():
    curve = Thinned(10)
    for x in range(8):
        curve.add(float(x), 0.0)
    curve.rewind(4.0)
    curve.add(5.0, 1.0)
    assert curve.points() == ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [0.0] * 5 + [1.0])
    curve.rewind(-1.0)
    assert curve.points() == ([], [])


def test_a_curve_is_whole_whenever_another_thread_reads_it():
    curve, found = Thinned(6), []
    seen = sys.gettrace()

    def look(frame, event, arg):
        if frame.f_code.co_filename == thinned_file and frame.f_code.co_name != "points":
            found.append(curve.points())
        return look

    sys.settrace(look)
    try:
        for x in range(50):
            curve.add(float(x), -float(x))
        curve.rewind(20.0)
    finally:
        sys.settrace(seen)
    assert len(found) > 200
    for xs, ys in found:
        assert xs == sorted(set(xs)) and ys == [-x for x in xs], "a point of two halves, or out of order"


def test_the_best_trials_have_curves_and_all_have_a_band():
    courses = Courses(-1.0)
    for trial in range(3 * MAX_CURVES):
        for iteration in range(1, 4):
            courses.add(f"t{trial}", float(iteration), trial / iteration)
    top = courses.top(3)
    assert [name for name, _, _ in top] == ["t0", "t1", "t2"] and top[1][1:] == (
        [1, 2, 3],
        [1.0, 0.5, pytest.approx(1 / 3)],
    )
    assert len(courses._curves) <= 2 * MAX_CURVES
    bands = courses.bands()
    assert [at for at, *_ in bands] == [1.0, 2.0, 3.0]
    _, low, middle, high = bands[0]
    assert 0 <= low < 300 < middle < 900 < high < 1200, "an even sample of all"


def test_steps_of_the_band_grow_wider_and_no_infinity_counts():
    courses = Courses(1.0)
    for iteration in range(1000):
        courses.add("t", float(iteration), 2.0)
    courses.add("t", 1000.0, math.nan)
    courses.add("u", 1.0, math.inf)
    assert len(courses.bands()) <= MAX_STEPS and courses.bands()[0] == (0.0, 2.0, 2.0, 2.0)
    assert [name for name, _, _ in courses.top()] == ["t"]


def test_about_how_long_a_search_takes_yet():
    assert left_s(10, 4, 2, 40.0, None) == 50.0
    assert left_s(10, 4, 2, 40.0, 60.0) == 20.0
    assert left_s(None, 4, 2, 40.0, None) is None and left_s(10, 0, 2, 40.0, None) is None
    assert left_s(10, 10, 0, 40.0, None) == 0.0


def band(value: float, nodes: int = 2) -> Band:
    return Band(value / nodes, value / nodes, value / nodes, value / nodes, value / nodes, value, nodes)


def course(times: list[float], used: float, total: float = 8.0) -> list[SeriesRow]:
    def row(kind: str, value: float) -> SeriesRow:
        labels = {"kind": kind, "resource": "CPU"}
        return SeriesRow(RESOURCES, labels, times, [value] * len(times), [band(value)] * len(times))

    return [row("total", total), row("used", used)]


def test_what_was_spent_is_counted_once_however_many_courses_know_of_it():
    fine, coarse = course([100.0, 110.0, 120.0], 8.0), course([0.0, 60.0, 120.0], 4.0)
    points = points_of([fine, coarse])
    assert [point.time_s for point in points] == [0.0, 60.0, 100.0, 110.0, 120.0]
    found = spend(points, left_s=30.0)
    assert found.cpu_s == 120 * 8 and found.cpu_given_s == 100 * 4 + 20 * 8 and found.left_s == 30.0
    assert found.cpu_share == pytest.approx(560 / 960) and found.gpu_share is None
    assert spend([]).cpu_s == 0 and spend([Point(5.0, 1.0)]).began_s == 5.0


def test_lines_are_shares_of_all_nodes_and_gaps_stay_gaps():
    rows = course([1.0, 2.0], 4.0)
    rows[1].bands[1] = None  # type: ignore[index]
    rows.append(SeriesRow(WORKERS, {"state": "task"}, [1.0, 2.0], [1.0, 2.0], [band(3.0), band(4.0)]))
    found = lines_of(rows)
    assert found["CPU"] == [0.5, None] and found["GPU"] == [None, None] and found["workers_tasks"] == [3.0, 4.0]
    assert lines_of([])["times"] == []


def test_a_coarse_course_goes_on_in_a_finer_one_and_is_thinned():
    fine = {"times": [10.0, 11.0], "CPU": [1.0, 0.5]}
    coarse = {"times": [0.0, 5.0, 10.5], "CPU": [0.1, 0.2, 0.3], "GPU": [0.0, 0.0, 0.0]}
    assert joined(coarse, fine) == {
        "times": [0.0, 5.0, 10.0, 11.0], "CPU": [0.1, 0.2, 1.0, 0.5], "GPU": [0.0, 0.0, None, None],
    }  # fmt: skip
    long = thinned({"times": [float(at) for at in range(5000)], "CPU": [0.0] * 5000})
    assert 250 <= len(long["times"]) <= 302 and long["times"][-1] == 4999.0 and len(long["CPU"]) == len(long["times"])


def test_tasks_by_name_have_what_is_open_and_what_was_counted():
    rows = [
        MetricRow(TASKS_FINISHED, "counter", {"name": "f", "outcome": "ok"}, 90.0),
        MetricRow(TASKS_FINISHED, "counter", {"name": "f", "outcome": "failed"}, 10.0),
        MetricRow(
            TASK_SECONDS, "histogram", {"name": "f"}, None, None, [(0.1, 50), (1.0, 100), (math.inf, 100)], 1.0, 100
        ),
        MetricRow(TASKS_FINISHED, "counter", {"name": "g", "outcome": "ok"}, 1000.0),
    ]
    first, second, third = by_name(
        [{"name": "h", "state": "RUNNING"}, {"name": "h", "state": "PENDING_ARGS_AVAIL"}], rows
    )
    assert (first["name"], first["running"], first["waiting"], first["p50_s"]) == ("h", 1, 1, None)
    assert (second["name"], second["finished"], second["failed"]) == ("f", 90, 10), "failures before successes"
    assert second["p50_s"] == pytest.approx(0.1) and 0.1 < second["p90_s"] < 1.0
    assert third["finished"] == 1000 and len(by_name([], rows, 1)) == 1


def test_quantiles_of_a_histogram():
    assert quantile([(1.0, 0), (10.0, 100), (math.inf, 100)], 0.5) == pytest.approx(10**0.5)
    assert quantile([(1.0, 0), (math.inf, 5)], 0.5) == 1.0 and quantile([(1.0, 0), (math.inf, 0)], 0.5) is None

"""The timeline's rectangles: few, whatever there is to show, and none is lost without being counted."""

from __future__ import annotations

from typing import Any

import pytest

from hpc.dashboard.pages import timeline
from hpc.dashboard.views import Params


def task(
    start_ms: float, run_ms: float, name: str = "f", worker: str = "1.2", state: str = "FINISHED"
) -> dict[str, Any]:
    return {
        "start_time_ms": start_ms,
        "end_time_ms": start_ms + run_ms,
        "name": name,
        "worker_id": worker,
        "state": state,
    }


def view(rows: list[dict[str, Any]], **given: str) -> dict[str, Any]:
    return timeline.view({"tasks": rows}, Params(given))


def test_a_task_is_a_rectangle_in_the_line_of_its_worker():
    rows = [task(1_000_000, 500), task(1_000_600, 400, "g", "1.10", "FAILED"), {"name": "waits", "state": "PENDING"}]
    found = view(rows, span="1")
    assert (found["begin_s"], found["end_s"], found["known"]) == (1000.0, 1001.0, 2)
    assert found["lanes"] == ["1.2", "1.10"] and found["names"] == ["f", "g"]
    assert found["rects"] == [[0, 0.0, 500.0, 0, 1, 0], [1, 600.0, 400.0, 1, 1, 1]]
    assert [(one["name"], one["tasks"], one["in_window_s"]) for one in found["totals"]] == [
        ("f", 1, pytest.approx(0.5)), ("g", 1, pytest.approx(0.4)),
    ]  # fmt: skip


def test_a_window_shows_what_reaches_into_it():
    rows = [task(1_000_000 + 1000 * number, 1500, worker=f"1.{number % 2}") for number in range(10)]
    found = view(rows, begin="1003.0", end="1005.0")
    assert found["tasks"] == 3 and found["totals"][0]["in_window_s"] == pytest.approx(0.5 + 1.5 + 1.0)
    assert view(rows, span="0")["tasks"] == 10 and view(rows, begin="2000", end="2001")["rects"] == []
    assert view([], span="0")["rects"] == []


def test_tasks_that_are_too_short_to_be_seen_are_drawn_as_one():
    rows = [
        task(1_000_000 + number / 10, 0.05, state="FAILED" if number == 3 else "FINISHED") for number in range(100_000)
    ]
    found = view(rows, span="0")
    assert len(found["rects"]) == 1 and found["rects"][0][4:] == [100_000, 1] and not found["left_out"]
    close = view(rows, begin="1000.0", end="1000.01")
    assert close["tasks"] == 100 == sum(rect[4] for rect in close["rects"]) and len(close["rects"]) == 100


def test_what_is_still_too_much_is_counted():
    rows = [task(1_000_000 + 20 * number, 1 + number % 7, name=f"n{number % 2}") for number in range(5000)]
    found = view(rows, span="0")
    assert len(found["rects"]) == timeline.MOST
    assert sum(rect[4] for rect in found["rects"]) + found["left_out"] == 5000
    rows = [task(1_000_000, 5, worker=f"1.{number}") for number in range(500)]
    assert len(view(rows)["lanes"]) == timeline.MOST_LANES and view(rows)["all_lanes"] == 500

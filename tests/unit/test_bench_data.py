"""The verdicts of the data benchmark: what a line wants of its figure, the limit, Ray and others."""

from __future__ import annotations

import pytest

from bench.data import LINES, WORKS, Found, Line, reached, row, takes_part
from bench.table import NOTHING

WANTING = Line("work", "scan", "scan", "scan_copy", of_limit=0.8, ray=3, beat=("polars", "duckdb"), allowed=2.5)


@pytest.mark.parametrize(
    ("ours", "limit", "ray", "others", "expected"),
    [
        (1.0, 0.8, 3.0, {"polars": 0.4, "daft": 0.1}, True),
        (1.0, 0.79, 3.0, {"polars": 0.4}, False),
        (1.0, 0.8, 2.9, {"polars": 0.4}, False),
        (1.0, 0.8, 3.0, {"polars": 0.39, "duckdb": 1.0}, False),
        (1.0, None, 3.0, {"polars": 0.4}, None),
        (1.0, 0.8, None, {"polars": 0.4}, None),
        (1.0, 0.8, 3.0, {"daft": 0.4}, None),
        (None, 0.8, 3.0, {"polars": 0.4}, None),
        (1.0, None, 2.0, {}, False),
    ],
)
def test_a_line_is_reached_when_all_that_it_wants_is_so(ours, limit, ray, others, expected):
    assert reached(WANTING, ours, limit, ray, others) is expected


def test_passes_allow_that_many_times_the_limit():
    line = Line("shuffle", "exchange", "shuffle", "pass", passes=4, of_limit=1)
    assert reached(line, 4.0, 1.0, None, {}) is True
    assert reached(line, 4.1, 1.0, None, {}) is False


def test_a_row_has_medians_ratios_and_what_was_wanted():
    found = Found()
    for seconds in (1.0, 3.0, 2.0):
        found.add("scan", "hpc", {"scan": seconds})
    found.add("scan", "ray", {"scan": 8.0})
    found.add("scan", "limit", {"scan_copy": 1.8})
    cells = row(LINES[0], found)
    assert cells[1:6] == ["2", "1.8", "0.9×", "8", "4×"]
    assert cells[-2:] == ["≥ 0.8 of the limit, ≥ 3× Ray", "yes"]


def test_seconds_of_a_peer_that_got_a_share_of_the_rows_are_multiplied():
    found = Found()
    found.add("map", "datasets", {"map": 2.0, "slower": 8})
    found.add("iterate", "datasets", {"rows": 2.0, "images": 1.0, "rows_slower": 8})
    assert found.middle("map", "map", "datasets") == 16
    assert (found.middle("iterate", "rows", "datasets"), found.middle("iterate", "images", "datasets")) == (16, 1)


def test_a_line_without_a_target_has_no_verdict():
    found = Found()
    found.add("images", "hpc", {"arrays": 2.0})
    found.add("images", "limit", {"pil": 1.0})
    cells = row(next(line for line in LINES if line.part == "arrays"), found)
    assert (cells[3], cells[-2:]) == ("0.5×", [NOTHING, NOTHING])


def test_each_work_has_a_line_and_all_but_two_lines_a_target():
    assert {line.work for line in LINES} == set(WORKS)
    wanting = [line for line in LINES if line.of_limit or line.ray or line.beat or line.at_most]
    assert [line.part for line in LINES if line not in wanting] == ["arrays", "sort"]
    assert takes_part("control", "hpc") and not takes_part("control", "polars") and not takes_part("query", "limit")

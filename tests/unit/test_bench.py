"""The pure parts of the bench: medians, ratios, the table and the page."""

from __future__ import annotations

import pytest

from bench import report
from bench.__main__ import ready_in

RESULTS = {
    "hpc": {"single client tasks sync": [10_000.0, 12_000.0, 11_000.0], "init to first result": [0.4, 0.5, 0.6]},
    "ray": {"single client tasks sync": [1_000.0, 1_100.0, 900.0], "init to first result": [3.0, 4.0, 5.0]},
}


def test_ratios_say_how_many_times_better():
    assert report.ratio("single client tasks sync", [10.0], [2.0]) == 5.0
    assert report.ratio("init to first result", [0.5], [4.0]) == 8.0


def test_rows_have_medians_spreads_and_verdicts():
    tasks, init = report.rows(RESULTS)
    assert tasks == [
        "single client tasks sync",
        "11,000 (10,000–12,000)",
        "1,000 (900–1,100)",
        "",
        "11.0×",
        "≥ 5×: yes",
    ]
    assert init[4:] == ["8.0×", "≤ 0.5 s: yes"]
    assert report.verdict("init to first result", 0.51, None).endswith("no")


def test_the_page_keeps_its_prose():
    page = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    new = report.into_page(page, report.markdown(RESULTS, {"kernel": "6"}))
    assert new.startswith("before\n")
    assert new.endswith("after\n")
    assert "old" not in new
    assert report.into_page(new, report.markdown(RESULTS, {"kernel": "6"})) == new


def test_a_script_that_did_not_come_up_is_an_error():
    assert ready_in("x\nREADY 0.25\n") == 0.25
    with pytest.raises(RuntimeError, match="did not come up"):
        ready_in("nothing")

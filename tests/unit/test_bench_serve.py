"""The bench of services: its verdicts, its checks, and rows that a run has not measured. Nothing here is timed."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import page
from bench.metrics import HPC, RAY
from bench.parts import table
from bench.serve import CHECKS, faults, figures
from bench.serve.figures import LITSERVE, UVLOOP, Figure, row
from bench.table import NOTHING

PROGRAMS = Path(__file__).resolve().parents[2] / "bench" / "serve"
RATE = Figure("rate", "rate", True, {UVLOOP: 1.0, RAY: 5.0})
OVER = Figure("first", "first", over={UVLOOP: 2.0})
LIMITS = Figure("failed", "failed", at_most=0)


@pytest.mark.parametrize(
    ("figure", "medians", "expected"),
    [
        (RATE, {HPC: 100.0, UVLOOP: 100.0, RAY: 20.0}, "yes"),
        (RATE, {HPC: 99.0, UVLOOP: 100.0, RAY: 1.0}, "NO"),
        (RATE, {HPC: 100.0, UVLOOP: 90.0, RAY: 21.0}, "NO"),
        (RATE, {HPC: 100.0, UVLOOP: 90.0}, "not measured"),
        (OVER, {HPC: 3.0, UVLOOP: 1.0}, "yes"),
        (OVER, {HPC: 3.1, UVLOOP: 1.0}, "NO"),
        (LIMITS, {HPC: 0.0}, "yes"),
        (LIMITS, {HPC: 1.0}, "NO"),
        (Figure("p50", "p50"), {HPC: 1.0}, NOTHING),
        (RATE, {}, NOTHING),
    ],
)
def test_a_figure_is_reached_when_all_that_it_wants_is_so(figure, medians, expected):
    assert figure.verdict(medians) == expected


def test_a_row_has_each_peer_and_how_much_better_hpc_is():
    records = {HPC: [{"rate": 100.0}, {"rate": 120.0}], UVLOOP: [{"rate": 50.0}], LITSERVE: []}
    cells = row(RATE, records, (HPC, UVLOOP, LITSERVE))
    assert cells == ["rate", "110 (100…120)", "50.0", NOTHING, "2.2× / –", RATE.targets(), "not measured"]
    assert RATE.targets() == "≥ 1× uvicorn, uvloop, ≥ 5× Ray" and OVER.targets() == "≤ uvicorn, uvloop + 2"


def test_each_program_of_faults_is_there_and_each_check_has_a_name_of_its_own():
    assert all((PROGRAMS / f"{name}.py").exists() for name in faults.PROGRAMS)
    assert len(set(CHECKS)) == len(CHECKS) == len(figures.CHECKS) + len(faults.PROGRAMS)
    assert len({check.title for check in figures.CHECKS.values()}) == len(figures.CHECKS)


def test_far_peers_take_part_in_the_first_round_alone():
    asked = []
    measuring = figures.Measuring(None, False, 3, lambda text: None)
    found = {name: [] for name in (HPC, UVLOOP, RAY)}
    measuring.turns(found, lambda who: asked.append(who) or {"rate": 1.0})
    assert {name: len(records) for name, records in found.items()} == {HPC: 3, UVLOOP: 3, RAY: 1}
    assert asked[:3] == [HPC, UVLOOP, RAY] and asked[3:] == [UVLOOP, HPC, HPC, UVLOOP]


def test_rows_that_this_run_has_not_measured_stay():
    old = faults.table_of([["a", "failed=1", "failed=0", "NO"], ["b", "failed=0", "failed=0", "ok"]])
    new = faults.table_of([["a", "failed=0", "failed=0", "ok"], ["c", "failed=0", "failed=0", "ok"]])
    found = page.joined({"tables": [old]}, new)
    assert [cells[:2] for cells in found["rows"]] == [["a", "failed=0"], ["b", "failed=0"], ["c", "failed=0"]]
    other = table("other", "", ["x"], [["1"]])
    assert page.joined({"tables": [old, {**other, "rows": [["2"]]}]}, other)["rows"] == [["1"]]

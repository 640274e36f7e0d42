"""The pure parts of the bench of hpc.tune: lines, their targets, and the trials of its probe. Nothing here is timed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from bench import tune
from bench.metrics import RAY, Target
from bench.tune import OPTUNA, Line, gathered, reached, row

PROBE = Path(__file__).resolve().parents[2] / "bench" / "probes" / "tune.py"
RATE = Line("rate", "r", (Target(at_least=100), Target(times=10.0)), RAY, True)
FOUND = Line("{sampler}: best", "best", (), OPTUNA, as_good=True)


def probe():
    spec = importlib.util.spec_from_file_location("bench_tune_probe", PROBE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_line_is_reached_when_all_of_its_targets_are():
    assert reached(RATE, [150.0], [10.0]) is True
    assert reached(RATE, [150.0], [20.0]) is False
    assert reached(RATE, [90.0], [1.0]) is False
    assert reached(Line("s", "s", (Target(at_most=3),)), [1.0, 2.0, 9.0], []) is True
    assert reached(Line("s", "s"), [1.0], []) is None


def test_without_the_peer_a_missed_limit_is_still_missed():
    assert reached(RATE, [150.0], []) is None
    assert reached(RATE, [90.0], []) is False


def test_a_search_is_as_good_as_alone_up_to_the_worst_quarter_of_those():
    alone = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    assert reached(FOUND, [5.9, 6.0, 6.0], alone) is True
    assert reached(FOUND, [6.1], alone) is False
    assert reached(FOUND, [6.1], []) is None


def test_a_row_has_both_medians_and_their_quotient():
    cells = row(RATE, {"r": [200.0, 400.0, 300.0]}, {"r": [10.0]})
    assert cells == ["rate", "300 (200…400)", "10.0", "30.0×", "≥ 100, ≥ 10× Ray", "yes"]
    assert row(FOUND, {"best": [1.0]}, {"best": [2.0, 3.0]}, sampler="TPE")[::5] == ["TPE: best", "yes"]
    assert row(Line("ran", "n"), {"n": [101]}, {"n": [5]})[1:] == ["101", "–", "–", "–", "–"]


def test_values_of_all_rounds_are_gathered_and_lists_are_more_of_them():
    assert gathered([{"a": 1.0, "b": [2.0, 3.0]}, {"a": 4.0, "b": [5.0]}]) == {"a": [1.0, 4.0], "b": [2.0, 3.0, 5.0]}


def test_every_line_has_a_direction_that_its_targets_agree_with():
    for line in (*tune.RATES, *tune.MANY, *tune.SEARCH):
        assert all(line.higher is (target.at_most is None) for target in line.targets), line


def test_the_known_function_has_its_least_value_where_the_bench_says():
    module = probe()
    assert module.known(module.LEAST_AT) == 0.0
    for i in range(len(module.LEAST_AT)):
        beside = [x + 0.1 * (i == j) for j, x in enumerate(module.LEAST_AT)]
        assert module.known(beside) == pytest.approx(sum(3.0**k * ((k == i) + 0.5 * ((k + 1) % 4 == i)) ** 2 * 0.01
                                                         for k in range(4)))  # fmt: skip

"""Metrics as text for Prometheus: each name and label as it takes them, and a board that asks for nothing unknown."""

from __future__ import annotations

import json
import math
import re

import pytest

from hpc.core.metrics.table import BY_NAME, HEAT, TABLE
from hpc.metrics.grafana import TITLES, board, queries, target
from hpc.metrics.text import OPENMETRICS, PROMETHEUS, form_for, openmetrics, prometheus
from hpc.state.metrics import Band, Latest, MetricRow

BAND = Band(0.0, 0.25, 0.5, 0.75, 1.0, 2.5, 5)
ROWS = [
    MetricRow("hpc_tasks_finished_total", "counter", {"name": 'a "b"\\\n', "outcome": "ok"}, 3.0),
    MetricRow("hpc_node_cpu_ratio", "gauge", {}, 2.5, BAND, None, 2.5, 5),
    MetricRow("hpc_task_seconds", "histogram", {"name": "f"}, None, None, [(0.1, 2), (math.inf, 3)], 1.5, 3),
    MetricRow("steps", "counter", {}, 7.5),
    MetricRow("9 lives", "gauge", {"of": "cats", "1st": "x"}, 9.0, Band(9, 9, 9, 9, 9, 9, 1), None, 9.0, 1),
]
LATEST = Latest(0.0, 0.0, 1, [], 0, ROWS)
LINE = re.compile(r'[a-zA-Z_:][a-zA-Z0-9_:]*(\{([a-zA-Z_][a-zA-Z0-9_]*="([^"\\\n]|\\["\\n])*",?)*\})? \S+')


def test_each_line_is_one_of_prometheus():
    lines = prometheus(LATEST).splitlines()
    assert all(LINE.fullmatch(line) for line in lines if not line.startswith("#"))
    assert 'hpc_tasks_finished_total{name="a \\"b\\"\\\\\\n",outcome="ok"} 3' in lines
    assert 'hpc_node_cpu_ratio{of="p90"} 0.75' in lines and 'hpc_node_cpu_ratio{of="count"} 5' in lines
    assert 'hpc_task_seconds_bucket{name="f",le="+Inf"} 3' in lines and 'hpc_task_seconds_sum{name="f"} 1.5' in lines
    assert "steps 7.5" in lines
    assert '_9_lives{exported_of="cats",_1st="x",of="max"} 9' in lines
    assert "# TYPE hpc_task_seconds histogram" in lines


def test_openmetrics_has_its_names_of_counters_units_and_end():
    lines = openmetrics(LATEST).splitlines()
    assert lines[-1] == "# EOF" and "# TYPE hpc_tasks_finished counter" in lines and "steps_total 7.5" in lines
    assert "# UNIT hpc_task_seconds seconds" in lines and "# UNIT hpc_node_cpu_ratio ratio" in lines


def test_a_reader_gets_the_form_that_it_asks_for():
    assert form_for("application/openmetrics-text;version=1.0.0,text/plain;q=0.5") == OPENMETRICS
    assert form_for("*/*") == form_for("") == PROMETHEUS


@pytest.mark.parametrize("metric", TABLE, ids=lambda metric: metric.name)
def test_names_of_the_table_follow_its_rules(metric):
    assert re.fullmatch(r"hpc_[a-z_]+", metric.name) and metric.text.endswith(".")
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert not metric.unit or metric.unit in metric.name.removesuffix("_total").rpartition("_")[2]
    assert BY_NAME[metric.name] is metric and metric.panel in TITLES


def test_heat_is_of_gauges_from_0_to_1():
    assert all(BY_NAME[name].kind == "gauge" and BY_NAME[name].unit == "ratio" for name in HEAT)


def test_the_board_has_each_metric_and_asks_for_none_that_there_is_not():
    made = json.loads(json.dumps(board()))
    panels = [panel for panel in made["panels"] if panel["type"] != "row"]
    assert [panel["title"] for panel in panels] and {panel["title"] for panel in panels} == set(BY_NAME)
    asked = " ".join(aim["expr"] for panel in panels for aim in panel["targets"])
    known = {*BY_NAME, *(f"{name}_bucket" for name in BY_NAME)}
    assert set(re.findall(r"hpc_[a-z_]+", asked)) <= known
    assert len({panel["id"] for panel in made["panels"]}) == len(made["panels"])
    taken = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in made["panels"]]
    assert len(set(taken)) == len(taken)


def test_what_grows_is_asked_as_a_rate():
    assert queries(BY_NAME["hpc_net_bytes_total"])[0][0].startswith("sum by (direction) (rate(")


def test_a_target_is_one_for_the_session():
    assert target("host:1", "s", "7") == [{"targets": ["host:1"], "labels": {"session": "s", "job_id": "7"}}]


def test_no_two_labels_and_no_two_buckets_have_one_name():
    buckets = [(1.0, 2), (math.inf, 3), (math.inf, 3)]
    rows = [
        MetricRow("c", "counter", {"a-b": "1", "a_b": "2", "a.b": "3"}, 1.0),
        MetricRow("g", "gauge", {"of": "1", "exported_of": "2"}, 9.0, Band(9, 9, 9, 9, 9, 9, 1), None, 9.0, 1),
        MetricRow("h", "histogram", {}, None, None, buckets, 1.5, 3),
    ]
    lines = prometheus(Latest(0.0, 0.0, 1, [], 0, rows)).splitlines()
    assert 'c{a_b="1",exported_a_b="2",exported_exported_a_b="3"} 1' in lines
    assert 'g{exported_of="1",exported_exported_of="2",of="max"} 9' in lines
    assert [line for line in lines if "bucket" in line] == ['h_bucket{le="1"} 2', 'h_bucket{le="+Inf"} 3']

"""What `hpc metrics --otlp` sends, to a collector that takes a part of it or nothing, and at the session's end."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from hpc.cli import metrics as command
from hpc.core.events.rows import TaskRow
from hpc.core.events.traces import Trace
from hpc.core.ids import Address
from hpc.exceptions import SessionLostError
from hpc.state import history, metrics
from hpc.state.metrics import Latest, MetricRow


def task(number: int, begin_ms: float) -> TaskRow:
    ident = f"{number:040x}"
    return TaskRow(
        ident, 0, "f", "f", "NORMAL_TASK", begin_ms, begin_ms + 1.0, "FINISHED", worker_id="1.2", node_id="1"
    )


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> list[TaskRow]:
    """The tasks that a look at the session brings, whose ends it has counted."""
    rows: list[TaskRow] = []
    counted = Latest(0.0, 0.0, 1, [], 0, [MetricRow("a_total", "counter", {}, 1.0)])
    monkeypatch.setattr(metrics, "look", lambda: None)
    monkeypatch.setattr(metrics, "latest", lambda: counted)
    ended: list[TaskRow] = []

    def read(since: dict[int, int], most_events: int) -> Any:
        ended.extend(rows)
        return SimpleNamespace(upto={1: len(ended)}, ended={1: len(ended)}, rows=lambda: list(rows))

    monkeypatch.setattr(history, "read", read)
    return rows


def export_to(taken: list[Any], room: int) -> Any:
    """An export to a collector that takes so many messages of spans."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs pip install 'hpc[otlp]'")
    from opentelemetry.sdk.metrics.export import MetricExportResult
    from opentelemetry.sdk.trace.export import SpanExportResult

    from hpc.metrics.otlp import Export

    def take(made: Any) -> Any:
        taken.append(made)
        if not isinstance(made, list):
            return MetricExportResult.SUCCESS
        spans = sum(isinstance(one, list) for one in taken)
        return SpanExportResult.SUCCESS if spans <= room else SpanExportResult.FAILURE

    export = Export("s", {}, Trace(5), "http://127.0.0.1:9")
    export._spans = export._metrics = SimpleNamespace(export=take, shutdown=lambda: None)  # type: ignore[assignment]
    return export


def test_behind_a_message_that_is_not_taken_no_other_is_tried(session):
    taken: list[Any] = []
    export = export_to(taken, 1)
    session += [task(number, 1e6) for number in range(1500)]
    sent = export.look()
    assert (sent.spans, sent.left_out, sent.failed) == (512, 988, True)
    assert [len(one) for one in taken if isinstance(one, list)] == [512, 512]
    assert not export.close()


def test_totals_have_one_beginning_whenever_a_longer_task_has_ended(session):
    taken: list[Any] = []
    export = export_to(taken, 100)
    begins = []
    for begin_ms in (2e6, 1e6):
        session[:] = [task(1, begin_ms)]
        assert not export.look().failed
        (sent,) = [one for one in taken if not isinstance(one, list)][-1:]
        (metric,) = sent.resource_metrics[0].scope_metrics[0].metrics
        begins.append(metric.data.data_points[0].start_time_unix_nano)
    assert begins == [int(2e12)] * 2


def test_the_end_of_the_session_leaves_its_span_and_the_numbers(monkeypatch, capsys):
    closed = []

    class Export:
        def __init__(self, *about: Any) -> None:
            self.looks = iter([SimpleNamespace(spans=3, left_out=0, failed=False)])

        def look(self) -> Any:
            for sent in self.looks:
                return sent
            raise SessionLostError("it has ended")

        def close(self) -> bool:
            closed.append(True)
            return True

    monkeypatch.setitem(sys.modules, "hpc.metrics.otlp", SimpleNamespace(Export=Export))
    monkeypatch.setattr("hpc.spi.whoami", lambda: SimpleNamespace(session="s", process=Address(1, 2)))
    monkeypatch.setattr("hpc.state.gather.session_facts", dict)
    monkeypatch.setattr(command, "_told_to_end", lambda: SimpleNamespace(wait=lambda interval_s: False))
    with pytest.raises(SessionLostError):
        command._export("http://127.0.0.1:9")
    assert closed == [True] and "3 spans were sent" in capsys.readouterr().out

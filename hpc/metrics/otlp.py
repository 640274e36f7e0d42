"""Metrics and spans for OpenTelemetry: what a session counts, and a span for each task and call that has ended.

What is sent is made of the rows of `hpc.state`, so that no process of the session needs OpenTelemetry or waits for it.
The exporter's own variables (OTEL_EXPORTER_OTLP_HEADERS, ..._CERTIFICATE, ..._COMPRESSION, ..._TIMEOUT) hold.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import export as sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from hpc.core.events import traces
from hpc.core.events.rows import TaskRow
from hpc.core.events.traces import Trace
from hpc.core.ids import owner_of
from hpc.core.metrics.table import BY_NAME
from hpc.metrics.text import ENDS
from hpc.metrics.totals import Totals
from hpc.state import history, metrics
from hpc.state.history import History
from hpc.state.metrics import Latest, MetricRow

#: OpenTelemetry's names of units.
UNITS = {"seconds": "s", "bytes": "By", "ratio": "1", "watts": "W", "": "1"}
#: Spans of one message, and of one look: a session may end more tasks than a collector takes.
MOST_SPANS, MOST_A_LOOK = 512, 20_000
SCOPE = InstrumentationScope("hpc")


class Sent(NamedTuple):
    """What one look has sent. ``left_out``: tasks without a span, as there were too many, or none takes them;
    ``failed``: the collector has not taken all."""

    spans: int
    left_out: int
    failed: bool


class Export:
    """Sends to one collector. ``url``: where that is, as http://host:4318."""

    def __init__(self, session: str, facts: Mapping[str, str], trace: Trace, url: str) -> None:
        self.session, self.trace = session, trace
        self.resource = Resource.create({"service.name": "hpc", "hpc.session": session, **facts})
        base = url.rstrip("/")
        self._metrics = OTLPMetricExporter(endpoint=f"{base}/v1/metrics")
        self._spans = OTLPSpanExporter(endpoint=f"{base}/v1/traces")
        self._totals, self._seen = Totals(), History()
        self._began_ns = time.time_ns()
        self._since_ns = 0  # of all totals: another one would be a count that began anew

    def look(self) -> Sent:
        """Ask the session once, and send what is new."""
        metrics.look()
        latest = self._totals.grown(metrics.latest())
        found = history.read(self._seen.upto, most_events=MOST_A_LOOK)
        self._seen.upto |= found.upto
        ended = sum(count - self._seen.ended.get(node, 0) for node, count in found.ended.items())
        self._seen.ended |= found.ended
        made = [self._task(row) for row in found.rows()]
        failed = self._metrics.export(self._packed(latest)) is not sdk.MetricExportResult.SUCCESS
        taken = self._send(made)
        return Sent(taken, max(0, ended - taken), failed or taken < len(made))

    def close(self) -> bool:
        """Send the span of the session as far as it was looked at; whether the collector has taken it."""
        span = self._span(
            f"session {self.session}", traces.session_span(self.session), self.trace.above, self._began_ns,
            time.time_ns(), {},
        )  # fmt: skip
        is_sent = self._send([span]) == 1
        self._metrics.shutdown()
        self._spans.shutdown()
        return is_sent

    def _send(self, made: Sequence[ReadableSpan]) -> int:
        """How many were taken. Behind the first message that is not no other is tried: each may take 10 s to fail."""
        for at in range(0, len(made), MOST_SPANS):
            if self._spans.export(made[at : at + MOST_SPANS]) is not SpanExportResult.SUCCESS:
                return at
        return len(made)

    # -------------------------------------------------------------- spans

    def _task(self, row: TaskRow) -> ReadableSpan:
        began_ns, ended_ns = (int(ms * 1e6) for ms in (row.start_time_ms, row.end_time_ms))
        self._began_ns = min(self._began_ns, began_ns)
        about = {
            "hpc.task.id": row.task_id, "hpc.task.attempt": row.attempt_number, "hpc.task.type": row.type,
            "hpc.task.submitted_by": str(owner_of(bytes.fromhex(row.task_id))), "hpc.worker": row.worker_id,
            "hpc.node": row.node_id, "code.function.name": row.func_or_class_name,
        }  # fmt: skip
        ident = traces.task_span(self.session, row.task_id, row.attempt_number)
        status = Status(StatusCode.OK) if row.state == "FINISHED" else Status(StatusCode.ERROR, row.why)
        above = traces.session_span(self.session)
        return self._span(row.name, ident, above, began_ns, ended_ns, about, status)

    def _span(
        self, name: str, ident: int, above: int, began_ns: int, ended_ns: int, about: Mapping[str, Any],
        status: Status | None = None,
    ) -> ReadableSpan:  # fmt: skip
        return ReadableSpan(
            name, self._context(ident), self._context(above) if above else None, self.resource, about,
            kind=SpanKind.INTERNAL, instrumentation_scope=SCOPE, status=status or Status(StatusCode.OK),
            start_time=began_ns, end_time=max(began_ns, ended_ns),
        )  # fmt: skip

    def _context(self, ident: int) -> SpanContext:
        flags = TraceFlags(TraceFlags.SAMPLED if self.trace.is_sampled else TraceFlags.DEFAULT)
        return SpanContext(self.trace.trace, ident, False, flags)

    # -------------------------------------------------------------- metrics

    def _packed(self, latest: Latest) -> sdk.MetricsData:
        self._since_ns = self._since_ns or self._began_ns
        made = list(packed(latest.rows, self._since_ns, time.time_ns()))
        return sdk.MetricsData([sdk.ResourceMetrics(self.resource, [sdk.ScopeMetrics(SCOPE, made, "")], "")])


def packed(rows: Iterable[MetricRow], began_ns: int, now_ns: int) -> Iterator[sdk.Metric]:
    """Rows as OpenTelemetry's: totals since ``began_ns``. A gauge has a point for each end and quantile of its band, as
    in Prometheus's form, told apart by the attribute ``of``."""
    by_name: dict[str, list[MetricRow]] = {}
    for row in rows:
        by_name.setdefault(row.name, []).append(row)
    for name, alike in by_name.items():
        known, kind = BY_NAME.get(name), alike[0].kind
        alike = [row for row in alike if row.kind == kind]
        data: Any
        if kind == "counter":
            data = sdk.Sum([_point(row.labels, row.value, began_ns, now_ns) for row in alike], CUMULATIVE, True)
        elif kind == "gauge":
            ends = [(row, end) for row in alike for end in ENDS if row.band is not None]
            points = [_point({**row.labels, "of": end}, getattr(row.band, end), began_ns, now_ns) for row, end in ends]
            data = sdk.Gauge(points)
        else:
            data = sdk.Histogram([_bars(row, began_ns, now_ns) for row in alike], CUMULATIVE)
        yield sdk.Metric(name, known.text if known else "", UNITS[known.unit] if known else "", data)


CUMULATIVE = sdk.AggregationTemporality.CUMULATIVE


def _point(labels: Mapping[str, str], value: float | None, began_ns: int, now_ns: int) -> sdk.NumberDataPoint:
    return sdk.NumberDataPoint(dict(labels), began_ns, now_ns, float(value or 0.0))


def _bars(row: MetricRow, began_ns: int, now_ns: int) -> sdk.HistogramDataPoint:
    """A histogram's buckets, each with its own count; here they have those of all below them."""
    buckets = [one for one in (row.buckets or [])[:-1] if one[0] < math.inf] + (row.buckets or [])[-1:]
    counts = [count - before for (_, count), (_, before) in zip(buckets, [(0.0, 0), *buckets])]
    bounds = [end for end, _ in buckets if end < math.inf]
    least: Any = None  # nobody knows it, nor the largest
    return sdk.HistogramDataPoint(dict(row.labels), began_ns, now_ns, row.count, row.sum, counts, bounds, least, least)

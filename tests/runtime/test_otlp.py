"""`hpc metrics --otlp`: a collector gets metrics and spans, as protobuf decodes them, in the trace that was named."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

import hpc
from hpc.core.events import traces
from hpc.util.metrics import Counter, Gauge, Histogram
from runtime.hosting import ENV, hpc_command
from runtime.running import eventually, one_node

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
pytestmark = pytest.mark.usefixtures("no_leaks")


class Collector:
    """What has come to an HTTP server, decoded."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.metrics: dict[str, Any] = {}
        self.spans: dict[str, Any] = {}
        self.resource: dict[str, str] = {}
        self.headers: dict[str, str] = {}
        self.refuses = False


@contextmanager
def collecting() -> Iterator[Collector]:
    metrics = pytest.importorskip("opentelemetry.proto.collector.metrics.v1.metrics_service_pb2")
    trace = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")

    class Taking(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            data = gzip.decompress(data) if self.headers.get("Content-Encoding") == "gzip" else data
            assert self.headers["Content-Type"] == "application/x-protobuf"
            self.send_response(400 if found.refuses else 200)
            self.end_headers()
            if self.path == "/v1/metrics":
                for one in metrics.ExportMetricsServiceRequest.FromString(data).resource_metrics:
                    found.resource = {pair.key: pair.value.string_value for pair in one.resource.attributes}
                    found.metrics |= {each.name: each for scope in one.scope_metrics for each in scope.metrics}
            elif self.path == "/v1/traces":
                for one in trace.ExportTraceServiceRequest.FromString(data).resource_spans:
                    found.spans |= {each.span_id.hex(): each for scope in one.scope_spans for each in scope.spans}
            found.headers = dict(self.headers)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing to speak of."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Taking)
    found = Collector(server.server_port)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join(60)


@contextmanager
def exporting(url: str, **env: str) -> Iterator[subprocess.Popen[str]]:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs pip install 'hpc[otlp]'")
    words = [sys.executable, "-m", "hpc", "metrics", "--otlp", url]
    process = subprocess.Popen(
        words, env={**ENV, "OTEL_METRIC_EXPORT_INTERVAL": "500", **env}, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None and url in process.stdout.readline()
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


@hpc.remote(max_retries=0)
def work(number: int) -> str:
    Counter("things", tag_keys=("kind",)).inc(2, {"kind": "a"})
    Histogram("sizes", boundaries=[1.0, 10.0]).observe(number)
    Gauge("level").set(number)
    if number == 3:
        raise ValueError("meant")
    return hpc.get_runtime_context().get_traceparent()


@hpc.remote
class Actor:
    def call(self) -> str:
        return hpc.get_runtime_context().get_traceparent()


def test_a_collector_gets_the_metrics_of_the_session():
    with one_node(), collecting() as found, exporting(found.url, OTEL_EXPORTER_OTLP_HEADERS="x-key=abc") as process:
        hpc.wait([work.remote(number) for number in range(20)], num_returns=20)

        def of(name: str, kind: str) -> list[Any]:
            return list(getattr(found.metrics[name], kind).data_points) if name in found.metrics else []

        eventually(lambda: [point.as_double for point in of("things", "sum")] == [40.0])
        things = found.metrics["things"].sum
        assert things.is_monotonic and things.aggregation_temporality == 2 and found.headers["x-key"] == "abc"
        assert {pair.key: pair.value.string_value for pair in things.data_points[0].attributes} == {"kind": "a"}
        eventually(lambda: [point.count for point in of("sizes", "histogram")] == [20])
        (sizes,) = of("sizes", "histogram")
        assert list(sizes.bucket_counts) == [2, 9, 9] and list(sizes.explicit_bounds) == [1.0, 10.0]
        assert sizes.sum == 190.0 and not sizes.HasField("min")
        level = {point.attributes[0].value.string_value: point.as_double for point in of("level", "gauge")}
        assert level["max"] == 19.0
        assert found.metrics["hpc_node_cpu_ratio"].description and found.metrics["hpc_node_memory_bytes"].unit == "By"
        assert found.resource["service.name"] == "hpc"
        assert found.resource["hpc.session"] == hpc.get_runtime_context().get_job_id()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_each_task_has_a_span_in_the_trace_that_was_named():
    parent = f"00-{TRACE}-{SPAN}-01"
    with one_node(env={"TRACEPARENT": parent}), collecting() as found:
        with exporting(found.url, TRACEPARENT=parent):
            refs = [work.remote(number) for number in range(20)]
            actor = Actor.remote()
            told = [hpc.get(ref) for number, ref in enumerate(refs) if number != 3]
            told.append(hpc.get(actor.call.remote()))
            hpc.wait([refs[3]])
            eventually(lambda: {text.split("-")[2] for text in told} <= found.spans.keys())
            eventually(lambda: any(span.name == "work" and span.status.code == 2 for span in found.spans.values()))
        session = f"{traces.session_span(hpc.get_runtime_context().get_job_id()):016x}"
        assert all(text.startswith(f"00-{TRACE}-") and text.endswith("-01") for text in told)
        assert {span.trace_id.hex() for span in found.spans.values()} == {TRACE}
        whole = found.spans.pop(session)
        assert whole.parent_span_id.hex() == SPAN and whole.name.startswith("session ")
        assert {span.parent_span_id.hex() for span in found.spans.values()} == {session}
        begun = [span.start_time_unix_nano for span in found.spans.values()]
        assert whole.start_time_unix_nano <= min(begun) and all(
            span.end_time_unix_nano >= span.start_time_unix_nano for span in found.spans.values()
        )
        names = {span.name for span in found.spans.values()}
        assert {"work", "Actor.call"} <= names and len([1 for s in found.spans.values() if s.name == "work"]) == 20
    assert os.environ.get("TRACEPARENT") is None


def test_a_collector_that_takes_nothing_is_said():
    with one_node(), collecting() as found:
        found.refuses = True
        with exporting(found.url) as process:
            eventually(lambda: found.metrics)
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 1
            assert process.stdout is not None and "messages were not taken" in process.stdout.read()


@pytest.mark.parametrize("url", ["collector:4318", "ftp://a", "http://"])
def test_an_address_that_is_none_is_an_error_of_usage(url):
    with one_node():
        done = hpc_command("metrics", "--otlp", url)
    assert done.returncode == 2 and "the address of a collector" in done.stderr and "Traceback" not in done.stderr


def test_without_the_extra_it_is_said_what_is_missing():
    hide = (
        "import sys; sys.modules['opentelemetry'] = None; from hpc.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    with one_node():
        words = [sys.executable, "-c", hide, "metrics", "--otlp", "http://localhost:4318"]
        done = subprocess.run(words, env=ENV, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "pip install 'hpc[otlp]'" in done.stderr

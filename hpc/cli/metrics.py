"""`hpc metrics`: the numbers of a session now, for people and for Prometheus, and boards for Grafana."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpc.cli.files import writing
from hpc.cli.look import look
from hpc.cli.table import show_table
from hpc.cli.words import ADDRESS, JSON, parse_alone
from hpc.settings import errors
from hpc.settings.errors import CliError
from hpc.settings.options import Option

if TYPE_CHECKING:
    from hpc.state.metrics import Latest, MetricRow

USAGE = "hpc metrics [options]     the numbers of a session now: its own and those of its programs"
TEXT = Option("text", ("--text",), "switch", "in Prometheus's form", "", default=False)
TARGET = Option(
    "target", ("--prometheus-target",), "text",
    "serve them until Ctrl-C, and write FILE for Prometheus's file_sd_configs", "", metavar="FILE",
)  # fmt: skip
BIND = Option(
    "bind", ("--bind",), "text", "with it: ADDR or ADDR:PORT to listen on (127.0.0.1)", "", metavar="ADDR",
)  # fmt: skip
OTLP = Option(
    "otlp", ("--otlp",), "text", "send them, and a span for each task, to an OpenTelemetry collector until Ctrl-C", "",
    metavar="URL",
)  # fmt: skip
GRAFANA = Option(
    "grafana", ("--grafana",), "text", "write a board for Grafana into DIR; needs no session", "", metavar="DIR"
)
TABLE = (ADDRESS, JSON, TEXT, TARGET, BIND, OTLP, GRAFANA)
#: The session is looked for again after this time.
LOOK_S = 2.0
#: OpenTelemetry's variable for the time between two messages, in ms, and that time where it says nothing.
INTERVAL, INTERVAL_S = "OTEL_METRIC_EXPORT_INTERVAL", 10.0


def run(words: list[str]) -> int:
    """Print or serve them; returns the exit code."""
    given = parse_alone("metrics", TABLE, words)
    if given.get("bind") and not given.get("target"):
        raise CliError("USAGE", "--bind is for --prometheus-target", fix="hpc metrics --help")
    if given.get("otlp") and given.get("target"):
        raise CliError("USAGE", "one command serves or sends: --prometheus-target or --otlp", fix="hpc metrics --help")
    return _boards(Path(given["grafana"])) if given.get("grafana") else look(words, TABLE, _metrics)


def _boards(folder: Path) -> int:
    from hpc.metrics.grafana import board

    file = folder / "hpc.json"
    with writing(file, "--grafana DIR"):
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(board(), indent=1) + "\n")
    errors.note(f"written to {file}: import it in Grafana, or provision it from there", sys.stdout)
    return 0


def _metrics(given: dict[str, Any], rest: list[str]) -> int:
    from msgspec import json as fast_json

    from hpc.metrics.text import prometheus
    from hpc.state import metrics

    if given.get("target"):
        return _serve(Path(given["target"]), given.get("bind") or "")
    if given.get("otlp"):
        return _export(given["otlp"])
    latest = metrics.latest()
    if given.get("json"):
        print(fast_json.format(fast_json.encode(latest), indent=1).decode())
    elif given.get("text"):
        sys.stdout.write(prometheus(latest))
    else:
        _show(latest)
    return 0


def _serve(file: Path, bind: str) -> int:
    from hpc.exceptions import GetTimeoutError
    from hpc.metrics.serve import LOCAL, Door, bound_to
    from hpc.metrics.totals import Totals
    from hpc.spi import whoami
    from hpc.state import metrics
    from hpc.state.gather import session_facts

    try:
        host, port = bound_to(bind)
    except ValueError as error:
        raise CliError("USAGE", f"--bind: {error}") from None
    totals = Totals()
    try:
        door = Door(lambda: totals.grown(metrics.latest()), host or LOCAL, port)
    except (OSError, OverflowError) as error:  # a port that is in use; a number that no port has
        raise CliError("USAGE", f"nothing can listen on {bind or LOCAL}: {error}") from None
    with writing(file, "--prometheus-target FILE"):
        token = door.write(file, whoami().session, str(session_facts().get("job_id") or ""))
    errors.note(
        f"http://{door.address}/metrics until Ctrl-C. For prometheus.yml:\n"
        f"  - job_name: hpc\n    file_sd_configs: [{{files: [{file.resolve()}]}}]\n"
        f"    authorization: {{credentials_file: {token.resolve()}}}",
        sys.stdout,
    )
    sys.stdout.flush()
    ended = _told_to_end()
    threading.Thread(target=door.run, name="hpc-metrics", daemon=True).start()
    try:
        while not ended.wait(LOOK_S):
            try:
                metrics.look()  # raises when the session has ended
            except GetTimeoutError:
                continue  # its head is being started again
    finally:
        door.close()
        file.unlink(missing_ok=True)
        token.unlink(missing_ok=True)
    return 0


def _export(url: str) -> int:
    from urllib.parse import urlsplit

    from hpc.core.events.traces import trace_of
    from hpc.exceptions import GetTimeoutError
    from hpc.spi import whoami
    from hpc.state.gather import session_facts

    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
        raise CliError("USAGE", f"--otlp takes the address of a collector, not {url!r}", fix="--otlp http://HOST:4318")
    try:
        from hpc.metrics.otlp import Export
    except ModuleNotFoundError as missing:
        what = f"--otlp needs {missing.name}, which is not installed"
        raise CliError("USAGE", what, fix="pip install 'hpc[otlp]'") from None
    interval_s, facts = _interval_s(), session_facts()
    about = {f"hpc.{name}": str(facts[name]) for name in ("scheduler", "job_id") if facts.get(name)}
    export = Export(whoami().session, about, trace_of(whoami().session, os.environ), url)
    errors.note(f"to {url} every {interval_s:g} s until Ctrl-C", sys.stdout)
    sys.stdout.flush()
    spans = left_out = failed = 0
    ended, is_last = _told_to_end(), False
    try:
        while True:
            try:
                sent = export.look()  # raises when the session has ended
                spans, left_out, failed = spans + sent.spans, left_out + sent.left_out, failed + sent.failed
            except GetTimeoutError:
                pass  # its head is being started again
            if is_last:
                break
            is_last = ended.wait(interval_s)
    finally:
        failed += not export.close()
        errors.note(
            f"{spans} spans were sent, {left_out} tasks have none; {failed} messages were not taken", sys.stdout
        )
    return 1 if failed else 0


def _interval_s() -> float:
    text = os.environ.get(INTERVAL, "")
    if text and not (text.isdigit() and int(text)):
        raise CliError("CONFIG", f"{INTERVAL} is milliseconds, not {text!r}")
    return int(text) / 1e3 if text else INTERVAL_S


def _told_to_end() -> threading.Event:
    """Set by Ctrl-C and SIGTERM."""
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    return ended


def _show(latest: Latest) -> None:
    """A line for each metric."""
    rows: list[tuple[str, ...]] = [("METRIC", "LABELS", "VALUE", "OF EACH: LEAST", "MEDIAN", "MOST", "OF")]
    rows += [_line(row) for row in latest.rows]
    show_table(rows)
    age = "not heard of yet" if math.isinf(latest.age_s) else f"{latest.age_s:.1f} s old"
    missing = f"; silent: {', '.join(latest.silent)}" if latest.silent else ""
    dropped = f"; {latest.dropped} samples had no room of their own" if latest.dropped else ""
    errors.note(f"{latest.nodes} nodes, {age}{missing}{dropped}", sys.stdout)


def _line(row: MetricRow) -> tuple[str, ...]:
    labels = " ".join(f"{key}={value}" for key, value in row.labels.items())
    if row.band is not None:
        band = row.band
        ends = (_short(band.min), _short(band.p50), _short(band.max), str(band.count))
        return row.name, labels, "" if row.name.endswith("_ratio") else _short(band.sum), *ends
    if row.buckets is not None:
        mean = _short(row.sum / row.count) if row.count else "-"
        return row.name, labels, f"mean {mean}", "", "", "", str(row.count)
    return row.name, labels, _short(row.value or 0.0), "", "", "", ""


def _short(value: float) -> str:
    """A number for people: four digits, with k, M, G, T from a thousand on."""
    for unit, word in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= unit:
            return f"{value / (unit if word != 'k' else 1e3):.4g} {word}"
    return f"{value:.4g}"

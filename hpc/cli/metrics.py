"""`hpc metrics`: the numbers of a session now, for people and for Prometheus, and boards for Grafana."""

from __future__ import annotations

import json
import math
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
GRAFANA = Option(
    "grafana", ("--grafana",), "text", "write a board for Grafana into DIR; needs no session", "", metavar="DIR"
)
TABLE = (ADDRESS, JSON, TEXT, TARGET, BIND, GRAFANA)
#: The session is looked for again after this time.
LOOK_S = 2.0


def run(words: list[str]) -> int:
    """Print or serve them; returns the exit code."""
    given = parse_alone("metrics", TABLE, words)
    if given.get("bind") and not given.get("target"):
        raise CliError("USAGE", "--bind is for --prometheus-target", fix="hpc metrics --help")
    return _boards(Path(given["grafana"])) if given.get("grafana") else look(words, TABLE, _metrics)


def _boards(folder: Path) -> int:
    from hpc.metrics.grafana import board

    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "hpc.json"
    file.write_text(json.dumps(board(), indent=1) + "\n")
    errors.note(f"written to {file}: import it in Grafana, or provision it from there", sys.stdout)
    return 0


def _metrics(given: dict[str, Any], rest: list[str]) -> int:
    from msgspec import json as fast_json

    from hpc.metrics.text import prometheus
    from hpc.state import metrics

    if given.get("target"):
        return _serve(Path(given["target"]), given.get("bind") or "")
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
    from hpc.metrics.serve import LOCAL, Door
    from hpc.spi import whoami
    from hpc.state import metrics
    from hpc.state.gather import session_facts

    host, _, port = bind.partition(":")
    if port and not port.isdigit():
        raise CliError("USAGE", f"--bind takes ADDR or ADDR:PORT, not {bind!r}")
    try:
        door = Door(metrics.latest, host or LOCAL, int(port or 0))
    except (OSError, OverflowError) as error:  # a port that is in use; a number that no port has
        raise CliError("USAGE", f"nothing can listen on {bind or LOCAL}: {error}") from None
    token = door.write(file, whoami().session, str(session_facts().get("job_id") or ""))
    errors.note(
        f"http://{door.address}/metrics until Ctrl-C. For prometheus.yml:\n"
        f"  - job_name: hpc\n    file_sd_configs: [{{files: [{file.resolve()}]}}]\n"
        f"    authorization: {{credentials_file: {token.resolve()}}}",
        sys.stdout,
    )
    sys.stdout.flush()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
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

"""`hpc events`: what happened in a session or a job, in order; with --follow what happens from now on, too."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from hpc.cli.session import connected
from hpc.cli.words import ADDRESS, FOLLOW, JOB_DIR, JSON, chosen, of_jobs
from hpc.core.events.kinds import KINDS, Severity
from hpc.settings import errors
from hpc.settings.errors import CliError
from hpc.settings.options import Option

if TYPE_CHECKING:
    from hpc.core.events.rows import EventRow

USAGE = "hpc events [JOB] [options]     what happened: nodes, workers, actors, memory, time; and what to do"
LINES = Option("lines", ("-n", "--tail", "--lines"), "count", "how many of the last ones (100)", "", metavar="N")
SEVERITY = Option("severity", ("--severity",), "text", "these and graver ones: info, warning, error", "", metavar="S")
KIND = Option("kind", ("--kind",), "text", "only of this kind, as WORKER_DIED", "", metavar="KIND")
TABLE = (FOLLOW, LINES, SEVERITY, KIND, ADDRESS, JSON, JOB_DIR)
GRADES: tuple[Severity, ...] = get_args(Severity)
#: How often --follow asks the session.
FOLLOW_S = 1.0
SHOWN = 100


def run(words: list[str]) -> int:
    """Print them; returns the exit code."""
    options, rest = of_jobs(words, TABLE)
    _check(options)
    if rest:
        return _of_job(options, rest)
    with connected(options["address"]):
        return _of_session(options)


def _check(options: dict[str, Any]) -> None:
    grade, kind = str(options.get("severity") or "").upper(), str(options.get("kind") or "").upper()
    if grade and grade not in GRADES:
        raise CliError("USAGE", f"--severity is one of {', '.join(GRADES).lower()}, not {options['severity']!r}")
    if kind and kind not in KINDS:
        raise CliError("USAGE", f"there is no kind {options['kind']!r}; there are: {', '.join(KINDS)}")


def is_meant(options: dict[str, Any], severity: str, kind: str) -> bool:
    """Whether an event passes --severity and --kind."""
    least, wanted = str(options.get("severity") or "INFO").upper(), str(options.get("kind") or "").upper()
    grades: tuple[str, ...] = GRADES
    return grades.index(severity) >= grades.index(least) and wanted in ("", kind)


def _of_session(options: dict[str, Any]) -> int:
    from hpc.state import events

    page = events.read(limit=events.ALL)
    if page.dropped:
        errors.note(f"{page.dropped} older events are not kept any more")
    _show(options, [row for row in page.rows if is_meant(options, row.severity, row.kind)][-_count(options) :])
    if not options.get("follow"):
        return 0
    follower = events.EventFollower(page.last)
    try:
        while True:
            time.sleep(FOLLOW_S)
            before = follower.missed
            rows = follower.more()
            if follower.missed > before:
                errors.note(f"{follower.missed - before} events came too fast to be kept")
            _show(options, [row for row in rows if is_meant(options, row.severity, row.kind)])
    except KeyboardInterrupt:
        return 0


def _count(options: dict[str, Any]) -> int:
    return int(options.get("lines") or SHOWN)


def _show(options: dict[str, Any], rows: Sequence[EventRow]) -> None:
    from msgspec import json as fast_json

    from hpc.state.events import words

    for row in rows:
        if options.get("json"):
            print(fast_json.encode(row).decode(), flush=True)
        else:
            print(f"{_clock(row.time_s)} {words(row)}", flush=True)


def _clock(time_s: float) -> str:
    return time.strftime("%m-%d %H:%M:%S", time.localtime(time_s))


def _of_job(options: dict[str, Any], rest: list[str]) -> int:
    """What the launch and its recorder have written down."""
    (job,) = chosen(options, rest)[:1]
    file = Path(job.path) / "events.jsonl"
    at = 0
    shown = False
    while True:
        is_last = not options.get("follow") or job.status().get("state") == "ended"  # what comes before it is read
        text = file.read_text(errors="replace") if file.exists() else ""
        lines = [line for line in text[at:].splitlines(keepends=True) if line.endswith("\n")]
        at += sum(map(len, lines))
        told = [one for one in _parsed(lines) if _is_meant_line(options, one)]
        for one in told if shown else told[-_count(options) :]:
            print(json.dumps(one) if options.get("json") else _line(one), flush=True)
        shown = True
        if is_last:
            return 0
        try:
            time.sleep(FOLLOW_S)
        except KeyboardInterrupt:
            return 0


def _parsed(lines: Iterable[str]) -> Iterable[dict[str, Any]]:
    for line in lines:
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict) and "event" in found and "t" in found:
            yield found


def _is_meant_line(options: dict[str, Any], event: dict[str, Any]) -> bool:
    """What the launch itself writes has no severity: it is shown where nothing is asked for."""
    if "severity" not in event:
        return not options.get("kind") and str(options.get("severity") or "info").upper() == "INFO"
    return is_meant(options, str(event["severity"]), str(event["event"]))


def _line(event: dict[str, Any]) -> str:
    advice = f" [{event['advice']}]" if event.get("advice") else ""
    if "severity" in event:
        return f"{_clock(event['t'])} {event['severity']:7} {event['event']:20} {event['text']}{advice}"
    rest = {name: value for name, value in event.items() if name not in ("t", "event") and value not in ("", None)}
    return f"{_clock(event['t'])} {'':7} {event['event']:20} {', '.join(f'{k} {v}' for k, v in rest.items())}"

"""The files of a report in a job's folder: what is known of the job, and the page. Each is replaced as a whole."""

from __future__ import annotations

import getpass
import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from hpc.core.events.kinds import Severity
from hpc.core.events.rows import EventRow
from hpc.report.facts import Facts, Happening, Job
from hpc.report.masking import masked, masked_words
from hpc.report.render import page

RECORD, REPORT, EVENTS = "record.json", "report.html", "events.jsonl"
#: Lines of the job's output, and letters of each.
LOG_LINES, LETTERS = 15, 400
#: Words of a command: a shell may have made thousands of them of one star.
MAX_COMMAND = 200
#: A folder's events that go into a report.
MAX_EVENTS = 300
#: Events of the session that a folder takes: some 5 MB.
MAX_WRITTEN = 20_000


def keep(folder: Path, facts: Facts) -> None:
    """Write down what is known, so that a report can be made of it later."""
    _replace(folder / RECORD, msgspec.json.encode(_storable(msgspec.to_builtins(facts))))


def _storable(value: Any) -> Any:
    """JSON has no NaN and no infinity: they are texts in the record. As null they could not be read as numbers."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {key: _storable(one) for key, one in value.items()}
    return [_storable(one) for one in value] if isinstance(value, (list, tuple)) else value


def publish(path: Path, facts: Facts) -> None:
    """Write the page."""
    _replace(path, page(facts).encode("utf-8", "replace"))


def kept(folder: Path) -> Facts:
    """What was kept; empty facts where nothing was, or where it cannot be read."""
    try:
        return msgspec.json.decode((folder / RECORD).read_bytes(), type=Facts, strict=False)
    except (OSError, msgspec.DecodeError):
        return Facts()


def as_json(facts: Facts) -> str:
    """The facts for programs, without secrets, as they are in the page."""
    return json.dumps(_clean(msgspec.to_builtins(facts)), indent=1) + "\n"


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, dict):
        return {masked(str(key)): _clean(one) for key, one in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None  # readers of JSON refuse NaN
    return [_clean(one) for one in value] if isinstance(value, (list, tuple)) else value


def job_of(folder: Path, asked_s: float | None = None) -> Job:
    """What the folder says that was asked for."""
    job, status = _read(folder / "job.json"), _read(folder / "status.json")
    command = [sayable(word) for word in job.get("argv") or [job.get("script") or "", *(job.get("args") or [])] if word]
    command = [one[:LETTERS] for one in command[:MAX_COMMAND]] + ["..."] * (len(command) > MAX_COMMAND)
    return Job(
        folder.name if folder.name.isdigit() else "", sayable(job.get("name") or "")[:LETTERS],
        str(job.get("scheduler") or ""),
        str(job.get("scheduler_id") or status.get("scheduler_id") or ""), _user(), str(status.get("host") or ""),
        masked_words(command), sayable(folder), float(job.get("created") or 0.0), asked_s,
        job.get("kind") == "session",
    )  # fmt: skip


def sayable(value: object) -> str:
    """A text that can be written: names of files need not be UTF-8, and Python keeps the rest as half characters."""
    return str(value).encode("utf-8", "replace").decode()


def last_lines(folder: Path) -> list[str]:
    """The end of what a submitted job has written; none of one at a terminal."""
    job, status = _read(folder / "job.json"), _read(folder / "status.json")
    try:
        with open(str(job.get("log") or status.get("log") or ""), "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 8000))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line[:LETTERS] for line in text.splitlines() if line.strip()][-LOG_LINES:]


def append_events(folder: Path, rows: Iterable[EventRow], written: int) -> int:
    """Put events of the session behind those of its launch; returns how many were written before and now. A job that
    has more than MAX_WRITTEN leaves the rest out."""
    lines = []
    for row in rows:
        if written >= MAX_WRITTEN:
            break
        written += 1
        event: dict[str, Any] = {
            "t": row.time_s, "event": row.kind, "severity": row.severity, "number": row.number, "node": row.node_id,
            "entity": row.entity_id, "text": masked(row.text), "advice": row.advice, "count": row.count,
        }  # fmt: skip
        lines.append(json.dumps({name: value for name, value in event.items() if value != ""}))
        if written == MAX_WRITTEN:
            lines.append(json.dumps({"t": row.time_s, "event": "events-full", "text": "later ones are not written"}))
    if lines:
        with (folder / EVENTS).open("a") as out:
            out.write("\n".join(lines) + "\n")
    return written


def events_of(folder: Path, after: int = 0) -> list[Happening]:
    """What the launch has written down, and of the session's events those after a number: the first and the last of
    many. A job that was put into the queue again has events of several sessions, each numbered from 1. The number is
    one of the last session's."""
    found: list[Happening] = []
    known: list[int] = []  # places of events of the session at hand up to that number
    newest = 0
    try:
        lines = (folder / EVENTS).read_text(errors="replace").splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            event = json.loads(line)
            if "number" in event:
                number, made = int(event["number"]), _of_session(event)
                if number <= newest:
                    known.clear()  # what came before is of an earlier session
                newest = number
                if number <= after:
                    known.append(len(found))
                found.append(made)
                continue
            rest = {name: value for name, value in event.items() if name not in ("t", "event")}
            words = ", ".join(f"{name} {value}" for name, value in rest.items() if value not in ("", None))
            found.append(Happening(float(event["t"]), sayable(event["event"]), sayable(words)[:LETTERS]))
        except (ValueError, KeyError, TypeError):
            continue
    for place in reversed(known):
        del found[place]
    return found[: MAX_EVENTS // 2] + found[MAX_EVENTS // 2 :][-MAX_EVENTS // 2 :]


def _of_session(event: Mapping[str, Any]) -> Happening:
    severity: Severity | Literal[""] = next((one for one in get_args(Severity) if one == event["severity"]), "")
    what = sayable(event["event"]).lower().replace("_", " ")
    return Happening(
        float(event["t"]), what, sayable(event["text"])[:LETTERS], severity, sayable(event.get("advice", ""))
    )


def _read(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())


def _replace(path: Path, data: bytes) -> None:
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        scratch.write_bytes(data)
        os.replace(scratch, path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def with_events(facts: Facts, folder: Path) -> Facts:
    """The same facts with the folder's events among them; they are not kept twice."""
    events = events_of(folder, facts.events_upto)
    began_s = facts.began_s or (events[0].time_s if events else facts.job.created_s)
    seen_s = facts.seen_s or max([began_s, *(one.time_s for one in events)])
    output = last_lines(folder) if facts.ending.cause not in ("normal", "running") else []
    return msgspec.structs.replace(
        facts, output=output, happenings=[*facts.happenings, *events], began_s=began_s, seen_s=max(seen_s, began_s)
    )

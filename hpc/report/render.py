"""A report as one HTML file: no script, nothing from elsewhere, all text escaped and without secrets. Pure."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Sequence
from html import escape

from hpc.report import runs, svg
from hpc.report.advice import advice
from hpc.report.collect import largest, quantile
from hpc.report.ending import clues
from hpc.report.facts import Cause, Facts, Happening, One, Use
from hpc.report.masking import masked, masked_words
from hpc.report.parts import Cell, Clock
from hpc.report.parts import clock as _clock
from hpc.report.parts import date as _date
from hpc.report.parts import lines as _lines
from hpc.report.parts import table as _table
from hpc.state.spend import spend

#: Rows of a table.
MAX_ROWS = 100
#: Fewer looks say nothing of a share.
FEW_LOOKS = 6
#: Larger files are made with fewer rectangles.
MAX_BYTES = 1_000_000

CAUSES: dict[Cause, str] = {
    "normal": "The script ended by itself",
    "error": "The script ended with an error",
    "signal": "It was told to end",
    "walltime": "Its time was over",
    "preempted": "Its nodes were taken for another job",
    "lost": "The session was lost",
    "killed": "It was ended by force",
    "running": "It runs",
    "unknown": "How it ended is not known",
}

#: Said of a session that somebody has ended.
ENDED = "The session was ended"

STYLE = """
:root{color-scheme:light dark;--line:#8885;--soft:#8882}
body{font:15px/1.45 system-ui,sans-serif;max-width:960px;margin:2em auto;padding:0 1em}
h1{font-size:1.5em;margin:0}h2{font-size:1.1em;margin:1.8em 0 .4em;border-bottom:1px solid var(--line)}
table{border-collapse:collapse;width:100%;font-size:.9em}th{text-align:left}
td,th{padding:.2em .6em .2em 0;vertical-align:top;border-bottom:1px solid var(--soft);overflow-wrap:anywhere}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
pre{background:var(--soft);padding:.6em;overflow:auto;font-size:.85em;white-space:pre-wrap}
svg{width:100%;height:auto;margin:.3em 0}svg text{font-size:11px;fill:currentColor}
.why{font-size:1.15em;padding:.6em .8em;border-left:5px solid #0072b2;background:var(--soft)}
.bad{border-color:#d55e00}.note{opacity:.75;font-size:.9em}ul{padding-left:1.2em}
"""


def page(facts: Facts) -> str:
    """The whole file."""
    text = _page(facts)
    while len(text.encode("utf-8", "replace")) > MAX_BYTES and facts.rects:
        facts.rects = facts.rects[::2] if len(facts.rects) > 1 else []
        text = _page(facts)
    return text


def _page(facts: Facts) -> str:
    name = masked(facts.job.name or "a session")
    title = f"job {facts.job.number}: {name}" if facts.job.number else name
    clock = _dated if _is_long(facts) else _clock
    parts = [
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        *_head(facts, clock),
        *_advice(facts),
        *_use(facts),
        *runs.sections(facts.runs, clock),
        *_tasks(facts),
        *_ones("First failures", facts.failed, clock),
        *_ones("Slowest", facts.slowest, clock),
        *_workers(facts, clock),
        *_waits(facts),
        *_actors(facts),
        *_nodes(facts),
        *_happenings(facts, clock),
        *_versions(facts),
        "</body></html>\n",
    ]
    return "\n".join(parts)


# ---------------------------------------------------------------- parts


def _head(facts: Facts, clock: Clock) -> Iterable[str]:
    ending, job = facts.ending, facts.job
    bad = "" if ending.cause in ("normal", "running") else " bad"
    code = "" if ending.code is None else f" (exit code {ending.code})"
    said = f"<br>{_lines(ending.text)}" if ending.text else ""
    how = ENDED if job.is_session and ending.cause == "normal" else CAUSES[ending.cause]
    yield f'<p class="why{bad}"><b>{how}{code}.</b>{said}</p>'
    before = clues(facts)
    if before:
        yield "<p>Before it:</p>"
        yield _table((), [(clock(one.time_s), _lines(one.what), _advised(one)) for one in before])
    if facts.output:
        yield f"<pre>{_lines(chr(10).join(facts.output), False)}</pre>"
    spent = spend(facts.uses)
    cpu_h, gpu_h = spent.cpu_s / 3600, spent.gpu_s / 3600
    is_known = len(facts.uses) > 1  # one look says nothing of an amount, and is no reason to say that it was none
    rows: list[tuple[str, str]] = [
        ("command", " ".join(masked_words(job.command))),
        ("scheduler", f"{job.scheduler} {job.scheduler_id}".strip()),
        ("user", job.user),
        ("host", job.host),
        ("folder", job.folder),
        ("began", _date(facts.began_s)),
        ("last seen" if ending.cause in ("running", "unknown") else "ended", _date(facts.seen_s)),
        ("took", svg.duration(facts.seen_s - facts.began_s)),
        ("time limit", svg.duration(job.asked_s) if job.asked_s else ""),
        ("spent", f"{cpu_h:.3g} CPU hours{_given(facts, spent.cpu_share)}" if is_known else ""),
        ("", f"{gpu_h:.3g} GPU hours{_given(facts, spent.gpu_share)}" if gpu_h else ""),
    ]
    yield _table((), [(escape(name), escape(text)) for name, text in rows if text])


def _given(facts: Facts, share: float | None) -> str:
    is_unknown = share is None or facts.is_plain or len(facts.uses) < FEW_LOOKS
    return "" if is_unknown else f", {share:.0%} of them given to tasks and actors"


def _advice(facts: Facts) -> Iterable[str]:
    found = advice(facts)
    if found:
        yield "<h2>What to change</h2><ul>"
        yield "".join(f"<li>{_lines(text)}</li>" for text in found) + "</ul>"


def _use(facts: Facts) -> Iterable[str]:
    uses = facts.uses
    if len(uses) < 2 or facts.is_plain:
        return
    times = [use.time_s for use in uses]
    yield "<h2>Use</h2>"
    there, given = [use.cpus for use in uses], [use.cpus_given for use in uses]
    yield svg.lines("CPUs", times, [("CPUs", svg.GREY, there), ("given to work", svg.BLUE, given)])
    if any(use.gpus for use in uses):
        there, given = [use.gpus for use in uses], [use.gpus_given for use in uses]
        yield svg.lines("GPUs", times, [("GPUs", svg.GREY, there), ("given to work", svg.BLUE, given)])
    yield _shares(uses, "cpu_busy", "CPUs busy")
    yield _shares(uses, "gpu_busy", "GPUs busy")
    yield _shares(uses, "memory", "memory of the nodes")
    store, disk = [float(use.store_bytes) for use in uses], [float(use.disk_bytes) for use in uses]
    objects = [("object store", svg.BLUE, store), ("on disk", svg.ORANGE, disk)]
    yield svg.lines("objects", times, objects, most=1.0, unit="B")
    pairs = itertools.pairwise(uses)
    rates = [0.0, *(max(0, b.ended - a.ended) / max(1e-3, b.time_s - a.time_s) for a, b in pairs)]
    yield svg.lines("tasks per second", times, [("tasks and calls per second", svg.BLUE, rates)])
    if facts.rects:
        yield svg.what_ran(facts.rects, "what ran when, by worker")
        yield '<p class="note">What ran when, one lane for each worker; failed ones are orange.</p>'
    if facts.missed:
        yield f'<p class="note">{facts.missed} looks at the session had no answer.</p>'


def _shares(uses: Sequence[Use], name: str, title: str) -> str:
    """The shares of nodes or devices, as (low, middle, high), in the looks that know them."""
    known = [(use.time_s, spread) for use in uses if (spread := getattr(use, name)) is not None]
    low, middle, high = ([100 * spread[at] for _, spread in known] for at in range(3))
    return svg.lines(title, [at for at, _ in known], [(title, svg.BLUE, middle)], (low, high), most=100, unit="%")


def _tasks(facts: Facts) -> Iterable[str]:
    if not facts.named:
        return
    yield "<h2>Tasks and calls</h2>"
    heads = ("name", "#ended", "#failed", "#run again", "#half below", "#nine of ten below", "#most", "#in all")
    rows: list[tuple[Cell, ...]] = []
    for one in largest(facts, MAX_ROWS):
        half, nine = quantile(one.bins, 0.5), quantile(one.bins, 0.9)
        times = [svg.duration(s) for s in (half, nine, one.most_s, one.seconds)]
        rows.append((_lines(one.name), one.count, one.failed, one.retried, *times))
    yield _table(heads, rows)
    if facts.unseen:
        yield f'<p class="note">{facts.unseen} more ended that were not seen one by one.</p>'


def _ones(title: str, ones: Sequence[One], clock: Clock) -> Iterable[str]:
    if not ones:
        return
    yield f"<h2>{title}</h2>"
    rows: list[tuple[Cell, ...]] = []
    for one in ones:
        log = f"<pre>{_lines(chr(10).join(one.log), False)}</pre>" if one.log else ""
        what = f"{_lines(one.why)}{log}"
        rows.append((_lines(one.name), one.worker, clock(one.start_s), svg.duration(one.seconds), one.state, what))
    yield _table(("name", "worker", "began", "#took", "state", ""), rows)


def _workers(facts: Facts, clock: Clock) -> Iterable[str]:
    if facts.workers:
        yield "<h2>Workers that ended unexpectedly</h2>"
        rows = []
        for one in facts.workers[:MAX_ROWS]:
            log = f"<pre>{_lines(chr(10).join(one.log), False)}</pre>" if one.log else ""
            rows.append((one.worker, clock(one.time_s), f"{_lines(one.why)}{log}"))
        yield _table(("worker", "when", "why"), rows)


def _waits(facts: Facts) -> Iterable[str]:
    if facts.waits:
        yield "<h2>What waited</h2>"
        looks = max(1, len(facts.uses))
        found = sorted(facts.waits.items(), key=lambda item: -item[1])
        yield _table(
            ("what waited for a worker", "#share of the looks"),
            [(_lines(why), f"{min(1.0, times / looks):.0%}") for why, times in found],
        )


def _actors(facts: Facts) -> Iterable[str]:
    if facts.actors:
        yield "<h2>Actors</h2>"
        told = sorted(facts.actors, key=lambda actor: (not actor.why, not actor.restarts))
        rows = [
            (_lines(one.class_name), _lines(one.name), one.state, one.restarts, _lines(one.why))
            for one in told[:MAX_ROWS]
        ]
        yield _table(("class", "name", "state", "#restarts", "why it died"), rows)


def _nodes(facts: Facts) -> Iterable[str]:
    if facts.nodes:
        yield "<h2>Nodes</h2>"
        told = sorted(facts.nodes, key=lambda node: (node.alive, node.node))
        rows = [
            (one.node, _lines(one.host), "" if one.alive else "lost", _lines(one.why), _lines(one.resources))
            for one in told[:MAX_ROWS]
        ]
        yield _table(("#node", "host", "", "why", "resources"), rows)
        if len(told) > MAX_ROWS:
            yield f'<p class="note">{len(told) - MAX_ROWS} more.</p>'


def _happenings(facts: Facts, clock: Clock) -> Iterable[str]:
    if facts.happenings:
        yield "<h2>Events</h2>"
        told = sorted(facts.happenings, key=lambda one: one.time_s)
        shown = told[: MAX_ROWS // 2] + told[MAX_ROWS // 2 :][-MAX_ROWS // 2 :]
        rows = [(clock(one.time_s), one.severity.lower(), _lines(one.what), _advised(one)) for one in shown]
        yield _table(("when", "", "what", ""), rows)
        if len(told) > len(shown):
            yield f'<p class="note">{len(told) - len(shown)} in between are left out.</p>'
        if facts.events_missed:
            yield f'<p class="note">{facts.events_missed} more came too fast to be kept.</p>'


def _advised(one: Happening) -> str:
    """Its text; what to do stands below."""
    return _lines(one.text) + (f'<br><span class="note">{_lines(one.advice)}</span>' if one.advice else "")


def _versions(facts: Facts) -> Iterable[str]:
    if facts.versions:
        yield "<h2>Versions</h2>"
        yield _table((), [(escape(name), _lines(version)) for name, version in sorted(facts.versions.items())])


# ---------------------------------------------------------------- times


def _dated(time_s: float) -> str:
    """For what lasted over midnight."""
    return time.strftime("%m-%d %H:%M:%S", time.gmtime(time_s)) if time_s else ""


def _is_long(facts: Facts) -> bool:
    """Whether a time of day says too little: it began on another day than it was seen last."""
    times = [facts.began_s, facts.seen_s, *(one.time_s for one in facts.happenings)]
    return len({time.gmtime(at)[:3] for at in times if at}) > 1

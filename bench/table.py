"""A result as a table for the terminal and for Markdown. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.metrics import TITLES
from bench.stats import Line, Summary, lines, summary

HEAD = ("benchmark", "unit", *TITLES.values(), "hpc / Ray", "hpc / others", "target", "reached")
NOTHING = "–"


def number(value: float) -> str:
    """Three or four digits that mean something: 31,204; 855; 10.8; 0.352; 0.0043."""
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 100:
        return f"{value:.0f}"
    if size >= 10:
        return f"{value:.1f}"
    if size >= 0.1 or size == 0:
        return f"{value:.3g}"
    return f"{value:.2g}"


def cell(found: Summary | None) -> str:
    """Median and the whole range of the rounds."""
    if found is None:
        return NOTHING
    if found.rounds == 1:
        return number(found.median)
    return f"{number(found.median)} ({number(found.low)}…{number(found.high)})"


def row(found: Line) -> tuple[str, ...]:
    """One line as text."""
    metric, times = found.metric, NOTHING
    if found.ratio is not None:
        times = f"{number(found.ratio)}×"
        if found.ratio_low is not None and found.ratio_high is not None and found.ratio_low != found.ratio_high:
            times += f" ({number(found.ratio_low)}…{number(found.ratio_high)})"
    verdict = {True: "yes", False: "NO", None: NOTHING if not metric.targets else "not measured"}[found.reached]
    target = ", ".join(t.text() for t in metric.targets) or NOTHING
    others = ", ".join(f"{TITLES[peer]} {number(value)}×" for peer, value in found.others.items()) or NOTHING
    cells = [cell(found.peers.get(peer)) for peer in TITLES]
    return (metric.name, metric.unit, *cells, times, others, target, verdict)


def rows(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """All lines of a result."""
    return [row(found) for found in lines(result["values"])]


def as_text(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Columns aligned by spaces: the first two to the left, the others to the right."""
    widths = [max(len(r[i]) for r in (head, *body)) for i in range(len(head))]
    out = []
    for cells in (head, ["-" * w for w in widths], *body):
        out.append("  ".join(c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths))))
    return "\n".join(text.rstrip() for text in out)


def as_markdown(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    out = [head, [":--" if i < 2 else "--:" for i in range(len(head))], *body]
    return "\n".join("| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |" for cells in out)


def extras(result: Mapping[str, Any]) -> list[str]:
    """What was measured beside a metric (the first put, a plain copy), in sentences."""
    out = []
    for name, peers in result.get("extras", {}).items():
        for peer, found in peers.items():
            said = [f"{what} {cell(summary(values))}" for what, values in found.items() if values]
            if said:
                out.append(f"{name}, {TITLES.get(peer, peer)}: " + "; ".join(said))
    return out


def absent(result: Mapping[str, Any]) -> list[str]:
    """Peers and parts that are not in the table, each with the reason; and measurements that failed."""
    out = [f"{TITLES.get(name, name)}: not measured: {why}" for name, why in result.get("skipped", {}).items()]
    return out + [f"failed: {text}" for text in result.get("failures", [])]

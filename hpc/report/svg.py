"""Pictures of a report: lines with a band, and what ran when. Text in, SVG out; all that is shown is escaped. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from hpc.report.facts import Rect

WIDTH, HEIGHT, LEFT = 720, 110, 64
#: Told apart also by those who see few colours (Okabe and Ito).
BLUE, ORANGE, GREY, RED = "#0072b2", "#e69f00", "#9aa0a6", "#d55e00"
#: Rows in the picture of what ran when.
MAX_LANES = 64
#: Curves in one picture.
MAX_CURVES = 20


def lines(
    title: str,
    times: Sequence[float],
    series: Sequence[tuple[str, str, Sequence[float]]],
    band: tuple[Sequence[float], Sequence[float]] | None = None,
    *,
    most: float = 0.0,
    unit: str = "",
) -> str:
    """Lines over time, as (name, colour, values); a ``band`` between two of them lies behind. ``most``: the least upper
    end of the scale."""
    if len(times) < 2:
        return ""
    top = max([most, *(max(values) for _, _, values in series), *(max(band[1]) if band else 0.0,)]) or 1.0
    first, span = times[0], (times[-1] - times[0]) or 1.0

    def at(time_s: float, value: float) -> str:
        x = LEFT + (WIDTH - LEFT - 8) * (time_s - first) / span
        return f"{x:.1f},{HEIGHT - 20 - (HEIGHT - 34) * min(value, top) / top:.1f}"

    parts = [_open(title, HEIGHT)]
    if band is not None:
        edge = [at(t, v) for t, v in zip(times, band[1])] + [at(t, v) for t, v in zip(times[::-1], band[0][::-1])]
        parts.append(f'<polygon points="{" ".join(edge)}" fill="{GREY}" fill-opacity="0.35"/>')
    for _, colour, values in series:
        points = " ".join(at(t, v) for t, v in zip(times, values))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    parts += [
        _text(LEFT - 6, 18, f"{_number(top)}{unit}", "end"),
        _text(LEFT - 6, HEIGHT - 18, "0", "end"),
        _text(LEFT, HEIGHT - 4, "0", "start"),
        _text(WIDTH - 8, HEIGHT - 4, duration(span), "end"),
    ]
    x = LEFT + 4
    for name, colour, _ in series:
        parts.append(f'<rect x="{x}" y="2" width="10" height="10" fill="{colour}"/>')
        parts.append(_text(x + 14, 11, name, "start"))
        x += 30 + 7 * len(name)
    return "".join([*parts, "</svg>"])


def curves(title: str, series: Sequence[tuple[str, Sequence[float], Sequence[float]]], across: str) -> str:
    """Curves with places of their own, as (name, xs, ys); the first stands out. ``across``: what the xs count. The
    scale goes from the least to the largest value."""
    drawn = [
        [(x, y) for x, y in zip(xs, ys) if math.isfinite(x) and math.isfinite(y)] for _, xs, ys in series[:MAX_CURVES]
    ]
    points = [point for curve in drawn for point in curve]
    if len(points) < 2:
        return ""
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    low, high = min(y for _, y in points), max(y for _, y in points)
    wide, tall = (right - left) or 1.0, (high - low) or 1.0
    parts = [_open(title, HEIGHT)]
    for number in reversed(range(len(drawn))):
        at = " ".join(
            f"{LEFT + (WIDTH - LEFT - 8) * (x - left) / wide:.1f},{HEIGHT - 20 - (HEIGHT - 34) * (y - low) / tall:.1f}"
            for x, y in drawn[number]
        )
        colour, width = (BLUE, "1.5") if number == 0 else (GREY, "0.8")
        parts.append(f'<polyline points="{at}" fill="none" stroke="{colour}" stroke-width="{width}"/>')
    parts += [
        _text(LEFT - 6, 18, f"{high:.4g}", "end"),
        _text(LEFT - 6, HEIGHT - 18, f"{low:.4g}", "end"),
        _text(LEFT, HEIGHT - 4, f"{left:.6g}", "start"),
        _text(WIDTH - 8, HEIGHT - 4, f"{across} {right:.6g}", "end"),
        _text(LEFT + 4, 11, title, "start"),
    ]
    return "".join([*parts, "</svg>"])


def what_ran(rects: Sequence[Rect], title: str) -> str:
    """Rectangles, one lane for each worker: those with most tasks, by their addresses."""
    if not rects:
        return ""
    counts: dict[str, int] = {}
    for one in rects:
        counts[one.worker] = counts.get(one.worker, 0) + 1
    shown = sorted(sorted(counts, key=lambda worker: -counts[worker])[:MAX_LANES], key=_address)
    lanes = {worker: lane for lane, worker in enumerate(shown)}
    first = min(one.start_s for one in rects)
    span = max(one.start_s + one.seconds for one in rects) - first or 1.0
    step = 12 if len(lanes) <= 16 else 7
    height = 24 + step * len(lanes)
    scale = (WIDTH - LEFT - 8) / span
    parts = [_open(title, height)]
    for worker, lane in lanes.items():
        if step > 7 or lane % 4 == 0:
            parts.append(_text(LEFT - 6, 12 + step * lane, worker, "end"))
    for one in rects:
        if one.worker in lanes:
            x = LEFT + (one.start_s - first) * scale
            fill = RED if one.failed else BLUE
            parts.append(
                f'<rect x="{x:.1f}" y="{4 + step * lanes[one.worker]}" width="{max(0.6, one.seconds * scale):.1f}" '
                f'height="{step - 2}" fill="{fill}"><title>{escape(one.name)}</title></rect>'
            )
    parts += [_text(LEFT, height - 4, "0", "start"), _text(WIDTH - 8, height - 4, duration(span), "end")]
    return "".join([*parts, "</svg>"])


def duration(seconds: float) -> str:
    """A time for people."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"


def _open(title: str, height: int) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title, quote=True)}">'
        f"<title>{escape(title)}</title>"
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'


def _number(value: float) -> str:
    for size, name in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{name}"
    return f"{value:.3g}"


def _address(worker: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in worker.split("."))

"""The parts of a report about trainings, searches, datasets and services, as HTML. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hpc.report import svg
from hpc.report.facts import RunFact
from hpc.report.masking import masked
from hpc.report.parts import Cell, Clock, lines, table
from hpc.state.bulletins import Curve, DataDetail, RunKind, ServeDetail, TrainDetail, TuneDetail

TITLES: dict[RunKind, str] = {
    "train": "Trainings", "tune": "Searches", "data": "Datasets", "serve": "Applications",
}  # fmt: skip
#: Runs of a kind that are told in full, and rows of their tables.
MAX_TOLD, MAX_ROWS, MAX_CURVES = 8, 20, 4


def sections(found: Sequence[RunFact], clock: Clock) -> Iterable[str]:
    """One for each kind of which there are runs."""
    for kind, title in TITLES.items():
        mine = sorted((one for one in found if one.kind == kind), key=lambda one: one.began_s)
        if mine:
            yield f"<h2>{title}</h2>"
            yield table(
                ("name", "state", "began", "#took", "", "why"),
                [
                    (
                        lines(one.name), one.state.lower(), clock(one.began_s),
                        svg.duration(max(0.0, (one.ended_s or one.seen_s) - one.began_s)), lines(one.words),
                        lines(one.why),
                    )
                    for one in mine
                ],
            )  # fmt: skip
            for one in mine[-MAX_TOLD:]:
                yield from _one(one, clock)


def _one(run: RunFact, clock: Clock) -> Iterable[str]:
    detail = run.detail
    if isinstance(detail, TrainDetail):
        yield from _training(run.name, detail, clock)
    elif isinstance(detail, TuneDetail):
        yield from _search(run.name, detail)
    elif isinstance(detail, DataDetail):
        yield from _dataset(run.name, detail)
    elif isinstance(detail, ServeDetail):
        yield from _application(run.name, detail)


def _curve(run: str, curve: Curve, across: str) -> str:
    return svg.curves(masked(f"{curve.name} of {run}"), [(curve.name, curve.xs, curve.ys)], across)


def _training(name: str, detail: TrainDetail, clock: Clock) -> Iterable[str]:
    yield from (_curve(name, curve, "report") for curve in detail.curves[:MAX_CURVES])
    yield from (f'<p class="note">{lines(text)}</p>' for text in detail.slow)
    if detail.checkpoints:
        rows: list[tuple[Cell, ...]] = [
            (lines(one.name), one.report, one.state.lower(), clock(one.stored_s), lines(one.metrics), lines(one.path))
            for one in detail.checkpoints[:MAX_ROWS]
        ]
        yield table(("checkpoint", "#report", "", "stored", "metrics", "where"), rows)
    if len(detail.attempts) > 1:
        starts: list[tuple[Cell, ...]] = [
            (one.number + 1, one.ranks, clock(one.began_s), clock(one.ended_s or 0.0), lines(one.why))
            for one in detail.attempts[:MAX_ROWS]
        ]
        yield table(("#start", "#ranks", "began", "ended", "why"), starts)


def _search(name: str, detail: TuneDetail) -> Iterable[str]:
    if detail.top:
        title = masked(f"{detail.metric} of {name}: the {len(detail.top)} best trials")
        yield svg.curves(title, [(one.name, one.xs, one.ys) for one in detail.top], "iteration")
    decided = ", ".join(f"{count} {what}" for what, count in detail.decided.items())
    if decided:
        yield f'<p class="note">{lines(f"{detail.scheduler} decided: {decided}")}</p>'
    rows: list[tuple[Cell, ...]] = [
        tuple(
            lines(_shown(one.get(field))) for field in ("name", "state", "iteration", "objective", "parameters", "why")
        )
        for one in detail.trials[:MAX_ROWS]
    ]
    if rows:
        yield table(
            ("trial", "state", "#iterations", f"#{masked(detail.metric) or 'objective'}", "parameters", ""), rows
        )


def _shown(value: object) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _dataset(name: str, detail: DataDetail) -> Iterable[str]:
    rows: list[tuple[Cell, ...]] = [
        (
            lines(one.name), one.state, f"{one.rows:,}", f"{one.rows_s:,.0f}", _size(one.all_bytes),
            _size(one.spilled_bytes), one.failed or "", lines(one.waits),
        )
        for one in detail.operators[:MAX_ROWS]
    ]  # fmt: skip
    yield table(
        (f"operators of {masked(name)}", "", "#rows", "#rows/s", "#size", "#spilled", "#failed", "waited for"), rows
    )
    if detail.stats:
        yield f"<pre>{lines(detail.stats, False)}</pre>"


def _application(name: str, detail: ServeDetail) -> Iterable[str]:
    yield from (_curve(name, curve, "seconds") for curve in detail.curves[:MAX_CURVES] if any(curve.ys))
    rows: list[tuple[Cell, ...]] = [
        (
            lines(one.name), one.state.lower(), f"{one.replicas} of {one.target}", f"{one.requests:,}",
            f"{one.errors:,}", f"{one.rejected:,}", _ms(one.p50_s), _ms(one.p99_s), lines(one.why),
        )
        for one in detail.deployments[:MAX_ROWS]
    ]  # fmt: skip
    titles = (
        f"deployments of {masked(name)}",
        "",
        "#replicas",
        "#requests",
        "#errors",
        "#rejected",
        "#p50",
        "#p99",
        "",
    )
    yield table(titles, rows)
    if detail.split:
        parts: list[tuple[Cell, ...]] = [
            (
                lines(one.app), one.role, "" if one.share is None else f"{one.share:.0%}", f"{one.requests:,}",
                f"{one.errors:,}", _ms(one.p99_s),
            )
            for one in detail.split[:MAX_ROWS]
        ]  # fmt: skip
        yield table((f"split of {masked(detail.route)}", "", "#share", "#requests", "#errors", "#p99"), parts)
    if detail.rolled_back:
        yield f'<p class="note">{lines(detail.rolled_back)}</p>'


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1e3:,.3g} ms"


def _size(nbytes: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if nbytes >= size:
            return f"{nbytes / size:.3g} {unit}"
    return f"{nbytes} B" if nbytes else ""

"""Shows and keeps a result: the terminal's text, JSON, and docs/performance.md between its markers with the plot."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.metrics import METRICS, TITLES
from bench.plot import NoPlot, draw
from bench.stats import lines, missed, unjudged
from bench.table import HEAD, absent, as_markdown, as_text, extras, rows

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "performance.md"
PLOTS = ROOT / "docs" / "plots"
LAST = "What each line does:"  # behind all tables
BEGIN, END = "<!-- begin: written by bench -->", "<!-- end: written by bench -->"


def to_json(result: Mapping[str, Any]) -> str:
    """Rounded to what was measured, so that a diff can be read."""

    def short(value: Any) -> Any:
        if isinstance(value, float):
            return float(f"{value:.5g}")
        if isinstance(value, Mapping):
            return {k: short(v) for k, v in value.items()}
        return [short(v) for v in value] if isinstance(value, list) else value

    return json.dumps(short(result), indent=1, ensure_ascii=False) + "\n"


def environment(result: Mapping[str, Any]) -> list[str]:
    """Where and how it was measured, in lines."""
    on, noise = result["machine"], result["noise"]
    kind = "virtual " if on["virtual"] else ""
    out = [
        f"Machine: {on['cpu']}, {on['cores']} {kind}cores, {on['memory_gb']} GB, {on['kernel']}",
        f"Date: {result['started']}, commit {on['commit'] or 'unknown'}",
    ]
    for name, found in result["versions"].items():
        out.append(f"{TITLES[name]}: " + ", ".join(f"{what} {version}" for what, version in found.items()))
    how = "each group in one process" if result["quick"] else "each figure in a fresh process"
    out.append(
        f"{result['rounds']} alternating rounds of {result['seconds']:g} s, {how}; load before the run "
        f"{noise['load before']:.2f}, CPU time taken by the hypervisor {noise['stolen share']:.1%}"
    )
    return out


def verdict(result: Mapping[str, Any]) -> str:
    """The targets in one sentence."""
    judged = [x for x in lines(result["values"]) if x.reached is not None]
    if not judged:
        return "No target was measured."
    bad, unknown = missed(result), unjudged(result)
    text = f"{len(judged) - len(bad)} of {len(judged)} measured targets reached."
    if bad:
        text += f" Not reached: {'; '.join(bad)}."
    if unknown:
        text += f" Not measured in this run: {'; '.join(unknown)}."
    return text


def terminal(result: Mapping[str, Any]) -> str:
    """All of a result as text."""
    parts = [*environment(result), "", as_text(HEAD, rows(result)), ""]
    parts += [*extras(result), *absent(result), verdict(result)]
    for part in result.get("tables", []):
        parts += ["", part["title"], part["note"], as_text(part["head"], part["rows"])]
    return "\n".join(parts)


def markdown(result: Mapping[str, Any], plot: str | None) -> str:
    """What stands between the markers."""
    parts = ["\n".join(f"* {text}" for text in environment(result)), as_markdown(HEAD, rows(result))]
    parts.append(
        "Each cell: the median of the rounds (lowest…highest round). hpc / Ray: the quotient of the medians, above 1 "
        "where hpc is the better one, whatever the unit (lowest…highest among rounds that were measured side by side)."
    )
    beside = [*extras(result), *absent(result)]
    if beside:
        parts.append("\n".join(f"* {text}" for text in beside))
    parts.append(f"**{verdict(result)}**")
    if plot:
        parts.append(f"![operations per second, hpc beside its peers]({plot})")
    parts += [section(part) for part in result.get("tables", [])]
    found = {x.metric.name for x in lines(result["values"])}
    what = [(m.name, m.what) for m in METRICS if m.name in found]
    parts.append(f"{LAST}\n\n" + as_markdown(("benchmark", "what is done"), what))
    return "\n\n".join(parts)


def section(part: Mapping[str, Any]) -> str:
    """One table of its own on the page, with its plots."""
    plots = [f"![{part['title']}]({PLOTS.name}/{name})" for name in part.get("plots", []) if (PLOTS / name).exists()]
    return "\n\n".join([f"### {part['title']}", part["note"], as_markdown(part["head"], part["rows"]), *plots])


def with_section(page: str, part: Mapping[str, Any]) -> str:
    """The page with this table in place of the one of its title, or behind all others; ValueError without a place."""
    before, begin, rest = page.partition(f"### {part['title']}\n")
    if begin:
        ends = [at for at in (rest.find("\n### "), rest.find(f"\n{LAST}")) if at >= 0]
        if ends:
            return f"{before}{section(part)}\n{rest[min(ends) :]}"
    elif LAST in page:
        return page.replace(LAST, f"{section(part)}\n\n{LAST}", 1)
    raise ValueError(f"the page has no line {LAST!r} behind its tables")


def replace(page: str, text: str) -> str:
    """The page with new text between the markers; ValueError if it has none."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks its markers {BEGIN} … {END}")
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def dated(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tables of a result, each of which says when it was made, unless each of its lines does."""
    when = f"Measured by itself: {result['started']}, commit {result['machine']['commit'] or 'unknown'}."
    return [
        part if "measured" in part.get("head", ()) else {**part, "note": f"{part['note']} {when}"}
        for part in result.get("tables", [])
    ]


def among_others(kept: Mapping[str, Any], tables: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A result with these tables in place of its own of the same titles, or behind them."""
    new = {part["title"]: part for part in tables}
    old = [new.pop(part["title"], part) for part in kept.get("tables", [])]
    return {**kept, "tables": [*old, *new.values()]}


def joined(kept: Mapping[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    """A table of which only some lines were measured, among the other lines of the one that is kept; what is not shown
    is left out. ``partial`` says how many cells, from the first on, tell a line from others. Lines of numbered checks
    are in the order of their numbers."""
    shown = {key: value for key, value in part.items() if key not in ("curves", "partial")}
    old = next((one for one in kept.get("tables", []) if one["title"] == part["title"]), None)
    if not part.get("partial") or old is None or old["head"] != part["head"]:
        return shown
    lines_of = {tuple(cells[: part["partial"]]): cells for cells in [*old["rows"], *part["rows"]]}
    body = list(lines_of.values())
    if all(cells[0].isdigit() for cells in body):
        body.sort(key=lambda cells: int(cells[0]))
    return {**shown, "rows": body}


def write_json(result: Mapping[str, Any], folder: Path) -> Path:
    """Keep a result; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{str(result['started'])[:19].replace(':', '')}.json"
    path.write_text(to_json(result))
    return path


def _write_tables(result: Mapping[str, Any]) -> list[str]:
    """The tables of a result alone into the page and the committed copy, the rest of which stays as it is."""
    copy, text = PLOTS / "bench.json", PAGE.read_text()
    kept = json.loads(copy.read_text())
    for part in (tables := [joined(kept, part) for part in dated(result)]):
        text = with_section(text, part)
    copy.write_text(to_json(among_others(kept, tables)))
    PAGE.write_text(text)
    return [f"wrote {', '.join(part['title'] for part in tables)} into {PAGE.relative_to(ROOT)}"]


def write_docs(result: Mapping[str, Any]) -> list[str]:
    """The page, the plot and the committed copy; returns what there is to say about it. Where nothing but tables was
    made, only those are replaced."""
    if result["tables"] and not result["values"]:
        return _write_tables(result)
    PLOTS.mkdir(parents=True, exist_ok=True)
    result = {**result, "tables": [joined({}, part) for part in result.get("tables", [])]}
    (PLOTS / "bench.json").write_text(to_json(result))
    said, plot = [], PLOTS / "bench.svg"
    drawn = True
    try:
        draw(result, plot)
    except NoPlot as why:
        said.append(f"no plot: {why}")
        drawn = False  # and no link: an older plot would show other figures than the page
    link = plot.relative_to(PAGE.parent).as_posix() if drawn else None
    PAGE.write_text(replace(PAGE.read_text(), markdown(result, link)))
    return [*said, f"wrote {PAGE.relative_to(ROOT)} and {PLOTS.relative_to(ROOT)}/"]

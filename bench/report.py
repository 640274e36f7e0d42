"""From rounds of figures to a table, a plot and the page docs/performance.md. Pure but for the files it writes."""

from __future__ import annotations

import json
import platform
import re
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "performance.md"
PLOTS = ROOT / "docs" / "plots"
BEGIN, END = "<!-- begin: written by bench -->", "<!-- end: written by bench -->"

#: What the first milestone asks for: at least so many times Ray.
TARGET_RATIO = 5.0
RATIO_NAMES = (
    "single client tasks sync",
    "single client tasks async",
    "1:1 actor calls sync",
    "1:1 actor calls async",
    "1:1 async-actor calls sync",
    "1:1 async-actor calls async",
    "n:n actor calls async",
)
#: Seconds: smaller is better.
SECONDS = {"init to first result", "shutdown", "4 local nodes ready", "4 Slurm nodes ready", "import"}
LIMITS = {"init to first result": 0.5, "4 local nodes ready": 1.0, "4 Slurm nodes ready": 2.0}

Figures = Mapping[str, Sequence[float]]


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, smallest and largest."""
    return statistics.median(values), min(values), max(values)


def show(value: float) -> str:
    """A figure with three digits."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def ratio(name: str, ours: Sequence[float], theirs: Sequence[float]) -> float:
    """How many times better we are: rates are compared as they are, seconds the other way round."""
    mine, other = statistics.median(ours), statistics.median(theirs)
    return other / mine if name in SECONDS else mine / other


def rows(results: Mapping[str, Figures]) -> list[list[str]]:
    """The table: a row per measurement."""
    out = []
    ours = results["hpc"]
    for name, values in ours.items():
        median, low, high = spread(values)
        row = [name, f"{show(median)} ({show(low)}–{show(high)})"]
        for peer in ("ray", "futures"):
            theirs = results.get(peer, {}).get(name)
            row.append("" if not theirs else f"{show(spread(theirs)[0])} ({show(min(theirs))}–{show(max(theirs))})")
        ray = results.get("ray", {}).get(name)
        times = ratio(name, values, ray) if ray else None
        row.append("" if times is None else f"{times:.1f}×")
        row.append(verdict(name, median, times))
        out.append(row)
    return out


def verdict(name: str, median: float, times: float | None) -> str:
    """Whether the milestone's figure is reached."""
    if name in LIMITS:
        return f"≤ {LIMITS[name]:g} s: {'yes' if median <= LIMITS[name] else 'no'}"
    if name in RATIO_NAMES and times is not None:
        return f"≥ {TARGET_RATIO:g}×: {'yes' if times >= TARGET_RATIO else 'no'}"
    return ""


HEADINGS = ["measurement", "hpc", "Ray", "ProcessPoolExecutor", "hpc to Ray", "asked for"]


def markdown(results: Mapping[str, Figures], about: Mapping[str, Any]) -> str:
    """The part of the page that the bench writes."""
    lines = [BEGIN, ""]
    lines += [f"* {key}: {value}" for key, value in about.items()]
    lines += ["", "| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
    lines += ["| " + " | ".join(row) + " |" for row in rows(results)]
    lines += ["", "![hpc to Ray](plots/bench.png)", "", END]
    return "\n".join(lines)


def text(results: Mapping[str, Figures]) -> str:
    """The table for a terminal."""
    table = [HEADINGS, *rows(results)]
    widths = [max(len(row[i]) for row in table) for i in range(len(HEADINGS))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in table)


def into_page(page: str, part: str) -> str:
    """The page with the part between the markers replaced."""
    pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    if not pattern.search(page):
        return page.rstrip() + "\n\n" + part + "\n"
    return pattern.sub(lambda _: part, page)


def machine(versions: Mapping[str, str]) -> dict[str, Any]:
    """What the figures were measured on."""
    import os

    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "processor": f"{model}, {len(os.sched_getaffinity(0))} cores",
        "kernel": platform.release(),
        "Python": sys.version.split()[0],
        **versions,
    }


def save(results: Mapping[str, Figures], about: Mapping[str, Any], note: str = "") -> None:
    """Write the JSON, the page and, where matplotlib is there, the plot."""
    PLOTS.mkdir(parents=True, exist_ok=True)
    data = {"about": dict(about), "results": {k: dict(v) for k, v in results.items()}}
    (PLOTS / "bench.json").write_text(json.dumps(data, indent=1) + "\n")
    if PAGE.exists():
        PAGE.write_text(into_page(PAGE.read_text(), markdown(results, about)))
    plot(results)


def plot(results: Mapping[str, Figures]) -> None:
    """A bar per measurement: how many times Ray's figure."""
    if "ray" not in results:
        print("plot skipped: there is nothing to compare with")
        return
    try:
        import matplotlib
    except ImportError:
        print("plot skipped: matplotlib is not installed (pip install 'hpc[bench]')")
        return
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = [n for n in results["hpc"] if results["ray"].get(n)]
    values = [ratio(n, results["hpc"][n], results["ray"][n]) for n in names]
    figure, axes = plt.subplots(figsize=(8, 0.34 * len(names) + 1.2))
    axes.barh(names[::-1], values[::-1], color="#3b6ea5")
    axes.axvline(1.0, color="#888888", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlabel("times Ray (median of alternating rounds; right is better)")
    for index, value in enumerate(values[::-1]):
        axes.text(value, index, f" {value:.1f}×", va="center", fontsize=8)
    figure.tight_layout()
    figure.savefig(PLOTS / "bench.png", dpi=110)
    plt.close(figure)

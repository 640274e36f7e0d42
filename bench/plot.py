"""The microbenchmarks as bars on a logarithmic axis. Needs matplotlib (the extra `bench`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.metrics import DASK, FUTURES, HPC, MICRO, PARSL, RATE, RAY, TITLES
from bench.stats import Line, lines
from bench.table import number

COLORS = {HPC: "#1f6fb4", RAY: "#e08a1e", DASK: "#c0504d", PARSL: "#7a5ba6", FUTURES: "#9a9a9a"}
ORDER = tuple(TITLES)
BAR = 0.17


class NoPlot(Exception):
    """The plot cannot be made; the text says why."""


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Write the plot of a result as SVG."""
    try:
        import matplotlib
    except ImportError:
        raise NoPlot("matplotlib is not installed (pip install 'hpc[bench]')") from None
    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    shown = [x for x in lines(result["values"], MICRO) if x.metric.unit == RATE]
    if not shown:
        raise NoPlot("no rate was measured")
    # Text stays text (small file), and the same figures give the same file.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "hpc", "font.size": 9})
    figure, axes = plt.subplots(figsize=(9, 0.62 * len(shown) + 1.0), facecolor="white")
    for peer in ORDER:
        _bars(axes, shown, peer)
    axes.set_xscale("log")
    axes.set_yticks(range(len(shown)), [x.metric.name for x in shown])
    axes.invert_yaxis()
    axes.set_xlabel("operations per second (logarithmic; median of the rounds, line: worst to best round)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    low, high = axes.get_xlim()
    axes.set_xlim(low, high * 3)  # room for the numbers
    axes.legend(loc="lower right", frameon=False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)


def _bars(axes: Any, shown: list[Line], peer: str) -> None:
    found = [(at, x.peers[peer]) for at, x in enumerate(shown) if peer in x.peers]
    if not found:
        return
    middle = (ORDER.index(peer) - 2) * BAR
    places = [at + middle for at, _ in found]
    medians = [s.median for _, s in found]
    errors = [[s.median - s.low for _, s in found], [s.high - s.median for _, s in found]]
    axes.barh(places, medians, BAR * 0.92, color=COLORS[peer], label=TITLES[peer])
    axes.errorbar(medians, places, xerr=errors, fmt="none", ecolor="#333333", elinewidth=0.8, capsize=1.5)
    for place, (_, s) in zip(places, found):
        axes.annotate(number(s.median), (s.high, place), (4, 0), textcoords="offset points", va="center", fontsize=6)


def draw_lines(series: Mapping[str, list[tuple[float, float]]], x_name: str, y_name: str, path: Path) -> None:
    """Write lines on two logarithmic axes as SVG; the x values of the first one are the ticks."""
    try:
        import matplotlib
    except ImportError:
        raise NoPlot("matplotlib is not installed (pip install 'hpc[bench]')") from None
    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "hpc", "font.size": 9})
    figure, axes = plt.subplots(figsize=(7, 3.6), facecolor="white")
    for (name, points), color in zip(series.items(), COLORS.values(), strict=False):
        axes.plot([x for x, _ in points], [y for _, y in points], marker="o", markersize=4, label=name, color=color)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ticks = [x for x, _ in next(iter(series.values()))]
    axes.set_xticks(ticks, [f"{x:g}" for x in ticks])
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel(x_name)
    axes.set_ylabel(y_name)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(frameon=False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)

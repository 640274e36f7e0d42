"""What it costs that somebody looks, beside what it may cost: ``--only seeing``.

Ways that are compared run in turns, within one session where that can be. Their CPU time is compared too: rates of a
machine that others use say little.
"""

from __future__ import annotations

import importlib.util
import shutil
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.children import Children
from bench.parts import table
from bench.table import number

LIMIT_S = 900.0
#: How tasks are run: by the probe's name, in words, and the share of the rate that it may cost.
WAYS = {
    "off": ("no metrics", None),
    "nobody": ("nobody looks", 0.01),
    "one": ("one page is open", 0.02),
    "five": ("five pages are open", 0.02),
}
#: What is wanted of the head with 10,000 nodes: bytes a second, ms a packet, MB.
TREE, TREE_WANTED = (10_000, 100), (1e6, 50.0, 50.0)
HEAD = ["check", "what", "figure", "wanted", "ok"]
Rows = Iterator[list[str]]
Pair = tuple[float, float]


def verdict(*is_met: bool) -> str:
    """A check as a word."""
    return "ok" if all(is_met) else "NO"


def seeing(children: Children, quick: bool) -> dict[str, Any]:
    """The checks, each with its figure and what is wanted of it."""
    rows: list[list[str]] = []
    for part in (_cost, _tree, _names, _tab, _flame, _top):
        rows += part(children, quick)
    note = (
        "1: the mean of the differences to the first way in the same round, and its standard error: one session goes "
        "from way to way. The verdict is by the rate. CPU is that of all processes of the session for each task, "
        "without the dashboard. 2: the parts of raylets and "
        "of the head as they are, with packets every 2 s. 3: what the head's and the dashboard's memory has grown by; "
        "the slowest page of a dashboard that follows five. 6: Chromium; live memory of the tab after collections of "
        "garbage. 11: 8 workers that share the CPUs, sampled 100 times a second; there is no ptrace. 12: a terminal of "
        "40 lines while tasks run."
    )
    return table("Seeing", note, HEAD, rows)


def _probe(children: Children, *args: str, env: dict[str, str] | None = None) -> list[dict[str, Any]]:
    return children.probe(sys.executable, "looking.py", *args, timeout_s=LIMIT_S, env=env).records


def _cost(children: Children, quick: bool) -> Rows:
    args = ("0.3", "5") if quick else ("0.7", "150")
    records = children.probe(sys.executable, "cost_of_seeing.py", *args, timeout_s=LIMIT_S).records
    found = {way: [one for one in records if one["way"] == way] for way in WAYS}
    for way, (words, most) in WAYS.items():
        rate, cpu, looker = (
            statistics.median(one[key] for one in found[way]) for key in ("rate", "cpu_us", "dashboard_share")
        )
        figure, lost = f"{number(rate)}/s, {cpu:.2f} us of CPU", 0.0
        if most is not None:
            faster, error = _difference(found[way], found["off"], "rate")
            more, its_error = _difference(found[way], found["off"], "cpu_us")
            figure = f"{figure}: rate {faster:+.1%} +- {error:.1%}, CPU {more:+.1%} +- {its_error:.1%}"
            figure += f"; dashboard and reader {looker:.1%} of a core"
            lost = -faster
        wanted = "" if most is None else f"loses < {most:.0%}"
        yield ["1", f"tasks, 1000 at a time: {words}", figure, wanted, "" if most is None else verdict(lost < most)]


def _difference(these: Sequence[Mapping[str, float]], those: Sequence[Mapping[str, float]], key: str) -> Pair:
    """By how much these are larger, as a share: the mean over rounds, and its standard error."""
    shares = [one[key] / other[key] - 1 for one, other in zip(these, those, strict=True)]
    return statistics.mean(shares), statistics.stdev(shares) / len(shares) ** 0.5


def _tree(children: Children, quick: bool) -> Rows:
    nodes, workers = (1_000, 100) if quick else TREE
    args = ("tree", str(nodes), str(workers))
    (one,) = children.probe(sys.executable, "seeing.py", *args, timeout_s=LIMIT_S).records
    figure = f"{one['head_bytes_s'] / 1e3:.1f} kB/s, {one['tick_ms']:.1f} ms a packet (at most {one['worst_ms']:.1f}), "
    figure += f"{one['rss_mb']:.0f} MB; the largest packet of any node {one['largest'] / 1e3:.1f} kB"
    met = (one["head_bytes_s"] < TREE_WANTED[0], one["tick_ms"] < TREE_WANTED[1], one["rss_mb"] < TREE_WANTED[2])
    yield ["2", f"{nodes:,} nodes of {workers} workers: the head", figure, "< 1 MB/s, 50 ms, 50 MB", verdict(*met)]


def _names(children: Children, quick: bool) -> Rows:
    sizes = ("50000", "5000", "50000") if quick else ("1000000", "100000", "1000000")
    (one,) = _probe(children, "names", *sizes)
    what = f"{one['tasks']:,} tasks of {one['names']:,} names, {one['tags']:,} values of a tag"
    grown = one["head_mb"] + one["dashboard_mb"]
    figure = f"{grown:.1f} MB (head {one['head_mb']:.1f}, dashboard {one['dashboard_mb']:.1f})"
    yield ["3", f"{what}: memory", figure, "< 30 MB", verdict(grown < 30)]
    figure = f"{one['dropped']:,}; the page says {one['shown']:,}"
    yield ["3", f"{what}: dropped", figure, "> 0, shown", verdict(one["dropped"] > 0, one["shown"] > 0)]
    figure = f"{one['slowest_ms']:.0f} ms ({one['slowest']}), {one['largest_bytes'] / 1e3:.0f} kB at most"
    met = (one["slowest_ms"] < 300, one["largest_bytes"] <= 1e6)
    yield ["3", f"{what}: a page", figure, "< 300 ms, 1 MB", verdict(*met)]


def _tab(children: Children, quick: bool) -> Rows:
    browser = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if browser is None or importlib.util.find_spec("playwright") is None:
        yield ["6", "a tab", "not measured: no Chromium, or no `hpc[browser]`", "", "NO"]
        return
    seconds = 30 if quick else 600
    (one,) = _probe(children, "tab", str(seconds))
    figure = f"{one['weight'] / 1e3:.0f} kB, {one['sent'] / 1e3:.0f} kB sent"
    yield ["6", "a tab: its first load", figure, "<= 200 kB", verdict(one["weight"] <= 200_000)]
    yield ["6", "a tab: its first chart", f"{one['chart_ms']:.0f} ms", "<= 1 s", verdict(one["chart_ms"] <= 1000)]
    sizes = one["sizes_mb"]
    middle, last = statistics.median(sizes[: len(sizes) // 2]), statistics.median(sizes[len(sizes) // 2 :])
    figure = f"{sizes[0]:.2f} MB, {middle:.2f} in the first half, {last:.2f} in the second, {sizes[-1]:.2f} at the end"
    yield ["6", f"a tab: live memory in {seconds} s", figure, "stable: +10 %", verdict(last < 1.1 * middle + 0.2)]


def _flame(children: Children, quick: bool) -> Rows:
    (one,) = _probe(children, "flame", "10" if quick else "60")
    figure = f"{one['heavy']:.1%} and {one['light']:.1%} of {one['cpu_s']:.1f} s of CPU in {one['processes']} workers"
    met = (abs(one["heavy"] - 0.7) <= 0.05, one["processes"] == 8)
    yield ["11", "a split of 70 % and 30 %", figure, "within 5", verdict(*met)]
    figure = f"{one['overhead']:.2%} of a core in each, {one['samples']:,} samples"
    yield ["11", "what the sampling takes", figure, "< 2 %", verdict(one["overhead"] < 0.02)]


def _top(children: Children, quick: bool) -> Rows:
    for one in _probe(children, "top", "5" if quick else "20"):
        figure = f"{number(one['bytes_s'])} bytes/s; exit code {one['code']}, "
        figure += "the terminal as it was" if one["is_clean"] else "the terminal is NOT as it was"
        met = (one["bytes_s"] < 5000, one["is_clean"])
        yield ["12", f"`hpc top`, ended by {one['how']}", figure, "< 5 kB/s, clean", verdict(*met)]

"""The page of learning curves: runs of tasks, kept one by one, drawn over steps and over seconds.

    python -m bench.rl_curves --tasks cartpole_ppo cartpole_dqn --seeds 3 --for 280

Runs that are kept (docs/plots/learning_curves.json) are not made again, so that hours of runs can be made piece by
piece; --again makes them anew. ``python -m bench --only rl --docs`` keeps and draws its runs in the same way.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import machine
from bench.children import Children
from bench.metrics import HPC, RAY
from bench.page import PLOTS, ROOT, replace
from bench.peers import RL_PEERS, SHOWN, versions
from bench.plot import COLORS, NoPlot
from bench.rl import MORE_S, SB3, TASKS, Measuring, middle, reached
from bench.table import NOTHING, as_markdown, number

PAGE = ROOT / "docs" / "learning_curves.md"
KEPT = PLOTS / "learning_curves.json"
#: The task's goal, as the page's plots show it, in the order of the page.
GOALS: Mapping[str, float] = {
    "cartpole_ppo": 450,
    "cartpole_dqn": 450,
    "pendulum_sac": -250,
    "cartpole_impala": 450,
    "cartpole_appo": 450,
    "stateless_ppo": 350,
    "truncated_ppo": 80,
    "two_agents_ppo": 900,
}
NAMES = {HPC: "hpc", RAY: "RLlib", SB3: "Stable-Baselines3"}
LINES = {HPC: COLORS[HPC], RAY: COLORS[RAY], SB3: "#5b8c3a"}
HEAD = ["task", "library", "seeds that reached it", "steps", "seconds", "CPU seconds", "lag in versions", "load"]
#: Where a point of a curve has what.
STEPS, SECONDS, VALUE, CPU = range(4)
#: A curve of fewer points shows each of them.
FEW = 12
#: What starting and ending a run takes, beside what is measured.
START_S = 15.0

Run = Mapping[str, Any]
Key = tuple[str, str, int]


def key_of(run: Run) -> Key:
    """What a run is known by."""
    return run["task"], run["peer"], int(run["seed"])


def load(path: Path = KEPT) -> dict[str, Any]:
    """What is kept."""
    return json.loads(path.read_text()) if path.exists() else {"machine": {}, "versions": {}, "runs": []}


def save(kept: Mapping[str, Any], path: Path = KEPT) -> None:
    """Write what is kept, a run on each line."""
    runs = ",\n".join(json.dumps(run, separators=(",", ":")) for run in kept["runs"])
    about = json.dumps({"machine": kept["machine"], "versions": kept["versions"]}, indent=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{about[:-2]},\n "runs": [\n{runs}\n]}}\n')


def with_runs(kept: Mapping[str, Any], new: Sequence[Run]) -> dict[str, Any]:
    """What is kept, with new runs in place of those of the same task, library and seed."""
    runs = {key_of(run): run for run in [*kept["runs"], *new]}
    order, peers = list(TASKS), list(NAMES)
    found = sorted(runs.values(), key=lambda run: (order.index(run["task"]), peers.index(run["peer"]), run["seed"]))
    return {**kept, "runs": found}


def missing(kept: Mapping[str, Any], tasks: Sequence[str], peers: Sequence[str], seeds: int) -> list[Key]:
    """The runs that are not kept: task by task, the libraries in turns."""
    done = {key_of(run) for run in kept["runs"]}
    wanted = [(task, peer, seed) for task in tasks for seed in range(seeds) for peer in TASKS[task].peers]
    return [key for key in wanted if key[1] in peers and key not in done]


def seconds_of(kept: Mapping[str, Any], task: str, peer: str) -> float:
    """How long a run may take, by those of it that are kept; of hpc a third of the limit at first."""
    took = [run["curve"][-1][SECONDS] for run in kept["runs"] if (run["task"], run["peer"]) == (task, peer)]
    first = TASKS[task].limit_s / (3 if peer == HPC else 1)
    return min(TASKS[task].limit_s, 1.5 * max(took, default=first)) + START_S


# ---------------------------------------------------------------- the page


def rows(runs: Sequence[Run]) -> list[list[str]]:
    """A line for each library of each task."""
    found = []
    for task in GOALS:
        for peer in NAMES:
            some = [run for run in runs if (run["task"], run["peer"]) == (task, peer)]
            if some:
                found.append(row(task, peer, some))
    return found


def row(task: str, peer: str, runs: Sequence[Run]) -> list[str]:
    """The medians of a library's runs: steps and seconds of those that reached the goal."""
    came = reached(runs, "steps")
    cells = [f"{len(came)} of {len(runs)}"]
    for name in ("steps", "seconds", "cpu"):
        values = reached(runs, name)
        cells.append(spread(values) if values else NOTHING)
    if not came:
        cells[1] = f"best return {number(max(run['best'] for run in runs))}"
    lags = [run["said"]["policy_lag_mean"] for run in runs if "policy_lag_mean" in run["said"]]
    cells.append(number(statistics.median(lags)) if lags else NOTHING)
    return [TASKS[task].title, NAMES[peer], *cells, number(statistics.median(run["load"] for run in runs))]


def spread(values: Sequence[float]) -> str:
    """The median, and the least and most where there are several."""
    text = number(statistics.median(values))
    return text if len(values) == 1 else f"{text} ({number(min(values))}…{number(max(values))})"


def draw(task: str, runs: Sequence[Run], path: Path) -> None:
    """Write the curves of a task as SVG: returns over steps and over seconds, from 0 on. Where one process does it
    all, seconds are those of its CPU time."""
    try:
        import matplotlib
    except ImportError:
        raise NoPlot("matplotlib is not installed (pip install 'hpc[bench]')") from None
    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "hpc", "font.size": 9})
    figure, panels = plt.subplots(1, 2, figsize=(9, 2.9), sharey=True, facecolor="white")
    alone = all(run["alone"] for run in runs)
    second = (CPU, "seconds of CPU time") if alone else (SECONDS, "seconds")
    for axes, (at, name) in zip(panels, ((STEPS, "steps of environments"), second), strict=True):
        for peer in NAMES:
            _curves(axes, [run for run in runs if run["peer"] == peer], at, peer)
        axes.axhline(GOALS[task], color="#555555", linewidth=0.8, linestyle="--")
        axes.set_xlim(left=0)
        axes.set_xlabel(name)
        axes.xaxis.set_major_formatter("{x:,.0f}" if at == STEPS else "{x:g}")
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
    panels[0].set_ylabel("return")
    panels[1].legend(frameon=False, loc="lower right")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)


def _curves(axes: Any, runs: Sequence[Run], at: int, peer: str) -> None:
    """A line for each seed; only the first has a name in the legend."""
    for turn, run in enumerate(runs):
        points = [(point[at], point[VALUE]) for point in run["curve"]]
        label = NAMES[peer] if turn == 0 else None
        style = {"color": LINES[peer], "linewidth": 1.0, "marker": "." if len(points) < FEW else None}
        axes.plot([x for x, _ in points], [y for _, y in points], label=label, **style)


def markdown(kept: Mapping[str, Any], plots: Mapping[str, str]) -> str:
    """What stands between the markers of the page."""
    about = [f"Machine: {kept['machine'].get('cpu')}, {kept['machine'].get('cores')} cores"]
    for peer, found in kept["versions"].items():
        about.append(f"{NAMES[peer]}: " + ", ".join(f"{what} {version}" for what, version in found.items()))
    dates = sorted({run["measured"] for run in kept["runs"]})
    about.append(f"Measured: {'; '.join(dates)}")
    parts = ["\n".join(f"* {text}" for text in about), as_markdown(HEAD, rows(kept["runs"]))]
    for task in GOALS:
        if task in plots:
            title = TASKS[task].title
            parts.append(f"### {title}\n\n![returns over steps and over seconds: {title}]({plots[task]})")
    return "\n\n".join(parts)


def write(kept: Mapping[str, Any]) -> list[str]:
    """The page and its plots; returns what there is to say about it."""
    plots, said = {}, []
    for task in GOALS:
        runs = [run for run in kept["runs"] if run["task"] == task]
        path = PLOTS / f"learning_{task}.svg"
        try:
            if runs:
                draw(task, runs, path)
                plots[task] = path.relative_to(PAGE.parent).as_posix()
        except NoPlot as why:
            said.append(f"no plot: {why}")
    PAGE.write_text(replace(PAGE.read_text(), markdown(kept, plots)))
    return [*said, f"wrote {PAGE.relative_to(ROOT)} and its plots"]


def write_docs(result: Mapping[str, Any]) -> list[str]:
    """Keep and draw the runs of a bench's result, where it has some."""
    found = [run for part in result.get("tables", []) for run in part.get("curves", [])]
    if not found:
        return []
    kept = with_runs(load(), [stamped(run) for run in found])
    save(kept)
    return write(kept)


def stamped(run: Run) -> dict[str, Any]:
    """A run with when and of what it was made."""
    when = f"{datetime.date.today():%Y-%m-%d}, commit {machine.describe()['commit'] or 'unknown'}"
    return {"measured": when, **run}


# ---------------------------------------------------------------- the command


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.rl_curves", description=__doc__)
    add = parser.add_argument
    add("--tasks", nargs="+", choices=list(GOALS), default=list(GOALS))
    add("--peers", nargs="+", choices=list(NAMES), default=list(NAMES))
    add("--seeds", type=int, default=3)
    add("--for", type=float, default=float("inf"), dest="seconds", help="begin no run that would end later than this")
    add("--again", action="store_true", help="make runs anew that are kept")
    add("--draw", action="store_true", help="measure nothing")
    return parser.parse_args()


def measure(args: argparse.Namespace, kept: dict[str, Any]) -> dict[str, Any]:
    """Make runs that are missing, as long as there is time; each is kept at once."""
    children = Children()
    measuring = Measuring(children, False, lambda text: print(text, file=sys.stderr, flush=True))
    measuring.find_peers(True)
    about = machine.describe()
    about_it = {
        "machine": {"cpu": about["cpu"], "cores": about["cores"]},
        "versions": {peer: versions(path, SHOWN[RL_PEERS.get(peer, peer)]) for peer, path in measuring.pythons.items()},
    }
    kept |= about_it
    nothing = {**kept, "runs": []}
    began = time.monotonic()
    try:
        for task, peer, seed in missing(nothing if args.again else kept, args.tasks, args.peers, args.seeds):
            needs = seconds_of(kept, task, peer)
            if peer not in measuring.pythons or time.monotonic() - began + needs > args.seconds:
                continue
            limit_s = TASKS[task].limit_s
            record = measuring.probe(
                peer, "learn.py", peer, task, str(seed), str(limit_s), timeout_s=3 * limit_s + MORE_S
            )
            if record is None:
                continue
            kept = {**with_runs(load(), [stamped({"task": task, "peer": peer, "seed": seed, **record})]), **about_it}
            save(kept)
            print(f"{task}, {peer}, seed {seed}: {middle([record])}", flush=True)
    finally:
        children.close()
    return kept


def main() -> int:
    """Measure, keep, draw."""
    args = arguments()
    kept = load()
    if not args.draw:
        kept = measure(args, kept)
    for text in write(kept):
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

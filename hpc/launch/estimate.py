"""`hpc-launch --estimate`: when the job would start, what it would cost, and which smaller one would start earlier.

The scheduler is asked about the job that is wanted, and about smaller ones. These have half or a quarter of its nodes,
or of its time. Nothing is submitted and no folder is made. What the scheduler does not tell is said to be unknown:
nothing here guesses.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from hpc.launch import plan
from hpc.launch.submit import refusal
from hpc.launchers.registry import Place
from hpc.launchers.scheduler import Forecast, Refused, Request, Scheduler
from hpc.launchers.units import clock_text
from hpc.settings.durations import short
from hpc.settings.errors import CliError
from hpc.settings.options import Settings

#: The parts of what was asked for that are tried: of the nodes, of the time.
PARTS = ((1, 1), (2, 1), (4, 1), (1, 2), (1, 4), (2, 2))
#: No shorter time limit is proposed.
SHORTEST_S = 60.0
#: A start within this time is called one at once, and so much earlier counts as earlier.
SOON_S = 60.0


@dataclass(frozen=True)
class Shape:
    """One size of the job, and what its scheduler said of it. `refused`: why it would not take this one."""

    request: Request
    forecast: Forecast
    refused: str = ""

    @property
    def nodes(self) -> int:
        return self.request.nodes[1]

    def hours(self, count: int | None) -> float | None:
        """Nodes (CPUs, GPUs) times the time limit, in hours; None where either is not known."""
        return None if count is None or self.request.time is None else count * self.request.time / 3600

    def wait_s(self, now_s: float) -> float | None:
        return None if self.forecast.start_s is None else max(0.0, self.forecast.start_s - now_s)


def smaller(request: Request) -> Iterator[Request]:
    """The request itself, then smaller ones: each is there once, and none has more of anything than the one asked."""
    seen: set[tuple[int, float | None]] = set()
    for of_nodes, of_time in PARTS:
        nodes = max(1, request.nodes[1] // of_nodes)
        seconds = None if request.time is None else max(min(SHORTEST_S, request.time), request.time // of_time)
        if (nodes, seconds) in seen:
            continue
        seen.add((nodes, seconds))
        if nodes == request.nodes[1]:
            yield replace(request, time=seconds)
        else:
            gpus = _part(request.gpus, nodes / request.nodes[1])
            yield replace(request, nodes=(min(nodes, request.nodes[0]), nodes), time=seconds, gpus=gpus)


def _part(gpus: str | None, share: float) -> str | None:
    """That share of the GPUs of a whole job (`a100:8`), at least one."""
    kind, colon, count = (gpus or "").rpartition(":")
    return f"{kind}{colon}{max(1, math.ceil(int(count) * share))}" if count.isdigit() else gpus


def estimate(settings: Settings, place: Place) -> int:
    """Print the answer; returns the exit code. CliError where the job would be refused."""
    now_s = time.time()
    request = plan.request_for(settings, ranges=place.kind != "local" and place.scheduler.node_ranges)
    if place.kind == "login":
        with tempfile.TemporaryDirectory(prefix="hpc-estimate-") as folder:
            shapes = ask(settings, place.scheduler, request, Path(folder))
        title = place.scheduler.title
    else:
        if place.alloc is not None and not settings.given("nodes"):
            request = replace(request, nodes=(1, len(place.alloc.nodes)))
        shapes, title = [Shape(request, here(place))], place.source.title
    if settings["json"]:
        print(json.dumps({"scheduler": place.source.name, "shapes": [as_row(s, shapes[0], now_s) for s in shapes]}))
    else:
        print("\n".join(as_text(title, shapes, now_s)))
    return 0


def here(place: Place) -> Forecast:
    """Where nothing would be submitted."""
    if place.alloc is None:
        return Forecast(time.time(), "nodes of this machine start at once")
    return Forecast(time.time(), f"job {place.alloc.job_id} has its nodes: the script starts at once")


def ask(settings: Settings, scheduler: Scheduler, wanted: Request, folder: Path) -> list[Shape]:
    """What the scheduler says of each shape; CliError where it refuses the one that was asked for."""
    plan.check_asked(settings, scheduler)
    found: list[Shape] = []
    for request in smaller(wanted):
        script = folder / scheduler.script_name
        script.write_text(scheduler.script(request, cwd="/", setup=[], command=["true"]))
        script.chmod(0o700)
        try:
            found.append(Shape(request, scheduler.forecast(str(script), request)))
        except Refused as no:
            if not found:
                raise refusal(settings, no.diagnosis) from None
            found.append(Shape(request, Forecast(), no.diagnosis.what))
        if len(found) == 1 and found[0].forecast.start_s is not None and found[0].wait_s(time.time()) == 0:
            break  # it starts at once: nothing can be earlier
    return found


# ---------------------------------------------------------------- shown


def earlier_s(shape: Shape, wanted: Shape) -> float | None:
    """How much earlier than the wanted one it starts; None where that is not known."""
    mine, theirs = shape.forecast.start_s, wanted.forecast.start_s
    return None if mine is None or theirs is None else theirs - mine


def fits_now(shape: Shape) -> bool:
    """Whether as many nodes are free as it needs, where the scheduler tells that and no start."""
    return shape.forecast.free is not None and shape.forecast.free >= shape.nodes


def as_row(shape: Shape, wanted: Shape, now_s: float) -> dict[str, Any]:
    """One shape for --json: seconds, hours; null is what is not known."""
    start_s = shape.forecast.start_s
    return {
        "nodes": shape.nodes,
        "time_s": shape.request.time,
        "start": None if start_s is None else datetime.fromtimestamp(start_s).isoformat(timespec="seconds"),
        "wait_s": shape.wait_s(now_s),
        "earlier_s": earlier_s(shape, wanted),
        "free_nodes": shape.forecast.free,
        "node_hours": shape.hours(shape.nodes),
        "cpu_hours": shape.hours(cpus(shape)),
        "gpu_hours": shape.hours(shape.forecast.gpus),
        "refused": shape.refused,
        "why": shape.forecast.why,
    }


def cpus(shape: Shape) -> int | None:
    """Of the whole job; None where neither the user nor the scheduler has said it."""
    asked = shape.request.cpus_per_task
    return shape.forecast.cpus or (asked * shape.nodes if asked else None)


def as_text(title: str, shapes: Sequence[Shape], now_s: float) -> list[str]:
    """The table, and in words what follows from it."""
    rows: list[tuple[str, ...]] = [("nodes", "time", "starts", "node-hours", "CPU-hours", "GPU-hours", "")]
    rows += [_cells(shape, shapes[0], now_s) for shape in shapes]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    whys = dict.fromkeys(shape.forecast.why for shape in shapes[:1] if shape.forecast.why)
    return [*lines, "", *(f"{title}: {why}" for why in whys), advice(shapes), "Nothing was submitted."]


def _cells(shape: Shape, wanted: Shape, now_s: float) -> tuple[str, ...]:
    time_s = shape.request.time
    hours = [shape.hours(shape.nodes), shape.hours(cpus(shape)), shape.hours(shape.forecast.gpus)]
    limit = clock_text(time_s) if time_s is not None else "no --time"
    sooner = earlier_s(shape, wanted)
    note = "what you asked for" if shape is wanted else ""
    if shape is not wanted and sooner is not None:
        note = f"{short(sooner)} earlier" if sooner >= SOON_S else "no earlier"
    return (
        str(shape.nodes), limit, _start(shape, now_s), *("?" if h is None else f"{h:.4g}" for h in hours), note
    )  # fmt: skip


def _start(shape: Shape, now_s: float) -> str:
    if shape.refused:
        return f"refused: {shape.refused}"
    wait_s = shape.wait_s(now_s)
    if wait_s is None:
        free = shape.forecast.free
        return "not told" if free is None else f"not told; {free} such nodes are free"
    assert shape.forecast.start_s is not None
    when = datetime.fromtimestamp(shape.forecast.start_s)
    return "at once" if wait_s < SOON_S else f"{when:%Y-%m-%d %H:%M} (in {short(wait_s)})"


def advice(shapes: Sequence[Shape]) -> str:
    """Which smaller shape would start earlier."""
    wanted, *others = shapes
    if not others:
        return "Nothing can start earlier."
    better = [(earlier_s(s, wanted) or 0.0, s) for s in others if (earlier_s(s, wanted) or 0.0) >= SOON_S]
    if better:
        # Of those that gain the most, the one that gives up the least.
        most = max(gain for gain, _ in better)
        gain, best = max(better, key=lambda one: (one[0] >= most - SOON_S, one[1].hours(one[1].nodes) or one[1].nodes))
        return f"{words(best)} would start {short(gain)} earlier."
    if wanted.forecast.start_s is not None:
        return "None of the smaller ones would start earlier."
    free = [s for s in others if fits_now(s)]
    if free and not fits_now(wanted):
        return f"{words(free[0])} fits into what is free now; whose turn it is, the scheduler does not tell."
    return "Whether a smaller one would start earlier, the scheduler does not tell."


def words(shape: Shape) -> str:
    """The options of hpc-launch for it."""
    limit = f" --time={clock_text(shape.request.time)}" if shape.request.time is not None else ""
    return f"--nodes={shape.nodes}{limit}"


def check(settings: Settings) -> None:
    """CliError for options that do not go together with --estimate."""
    for other in ("detach", "dry_run", "test_only"):
        if settings[other]:
            what = f"--estimate tells when a job would start, and --{other.replace('_', '-')} is something else"
            raise CliError("USAGE", what, fix="one of the two")

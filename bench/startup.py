"""How long 1 to 64 nodes of a real Slurm take until they accept work, and where the time goes, beside a bare srun.

All nodes are network namespaces of this machine and share its cores: what takes CPU time on each node adds up here, and
would not on machines of their own. So the quotient beside `srun -NN true`, measured in the same allocation, says
more than the seconds.
"""

from __future__ import annotations

import statistics
import sys
from typing import Any

from bench import slurm, spaces
from bench.children import Children, MeasureError, parse
from bench.parts import Skipped, table
from bench.plot import NoPlot, draw_lines
from bench.table import number

SIZES = (1, 2, 4, 8, 16, 32, 64)
ROUNDS = 3
LIMIT_S = 240.0
STEPS = ("srun", "group", "first", "all", "ready", "stop")


def measure(bed: Any, nodes: int, rounds: int) -> list[dict[str, float]]:
    """The records of one allocation of so many nodes."""
    probe = spaces.ROOT / "bench" / "probes" / "startup.py"
    command = ["salloc", "-Q", f"--nodes={nodes}", "--time=5", sys.executable, str(probe), str(nodes), str(rounds)]
    done = bed.run(command, timeout_s=LIMIT_S)
    bed.wait_idle(60)
    records = parse(done.stdout + done.stderr)
    if done.returncode != 0 or len(records) != rounds:
        last = " | ".join((done.stdout + done.stderr).strip().splitlines()[-3:])
        raise MeasureError(f"{nodes} nodes: exit code {done.returncode}: {last}")
    return records


def startup(_children: Children, quick: bool) -> dict[str, Any]:
    """A row for each number of nodes."""
    sizes = SIZES[:5] if quick else SIZES
    found: dict[int, list[dict[str, float]]] = {}
    try:
        with slurm.bed(sizes[-1]) as bed:
            for nodes in sizes:
                found[nodes] = measure(bed, nodes, 1 if quick else ROUNDS)
    except slurm.NoSlurm as error:
        raise Skipped(str(error)) from None
    middle = {n: {k: statistics.median(r[k] for r in rs) for k in STEPS} for n, rs in found.items()}
    rows = [[str(nodes), *(number(m[k]) for k in STEPS), number(m["ready"] / m["srun"])] for nodes, m in middle.items()]
    plots = []
    try:
        series = {"all nodes accept work": "ready", "all supervisors answer": "all", "srun true": "srun"}
        lines = {name: [(n, middle[n][key]) for n in middle] for name, key in series.items()}
        draw_lines(lines, "nodes", "seconds (both axes logarithmic)", spaces.ROOT / "docs" / "plots" / "startup.svg")
        plots = ["startup.svg"]
    except NoPlot:
        pass
    note = (
        "Seconds, the median of the rounds. srun: `srun -NN true` in the same allocation, just before. The others "
        "count from the start of Python: our one srun is running, the first and the last supervisor have answered, "
        "all nodes accept work. stop: from the wish to end until all processes are gone. The nodes share this "
        "machine's cores."
    )
    head = ["nodes", "srun -NN true", "our srun runs", "first answers", "all answer", "ready", "stop", "ready / srun"]
    return {**table("Start-up of 1 to 64 Slurm nodes", note, head, rows), "plots": plots}

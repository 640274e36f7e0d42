"""Training beside plain torchrun: what a step costs more."""

from __future__ import annotations

import importlib.util
import statistics
import sys
from typing import Any

from bench import spaces
from bench.children import Children, hpc_launch
from bench.parts import Skipped, table
from bench.table import number

LIMIT_S = 120.0
PROBE = str(spaces.ROOT / "bench" / "probes" / "train.py")
PEER = "torchrun"


def _commands(steps: str) -> dict[str, list[str]]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--rdzv-backend=c10d"]
    launch = [*hpc_launch(), "--ranks-per-node", "2"]
    return {
        PEER: [*torchrun, "--rdzv-endpoint=127.0.0.1:0", PROBE, steps],
        "hpc-launch --ranks-per-node": [*launch, PROBE, steps],
        "TorchTrainer": [sys.executable, PROBE, "trainer", steps, "0"],
        "TorchTrainer, a report each 10 steps": [sys.executable, PROBE, "trainer", steps, "10"],
        "TorchTrainer, a report each step": [sys.executable, PROBE, "trainer", steps, "1"],
    }


def train(children: Children, quick: bool) -> dict[str, Any]:
    """A row for each way to start the same script."""
    if importlib.util.find_spec("torch") is None:
        raise Skipped("PyTorch is not installed (pip install 'hpc[train]')")
    steps, rounds = ("100", 1) if quick else ("400", 5)
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, command in _commands(steps).items():
            (record,) = children.run(command, LIMIT_S, {"OMP_NUM_THREADS": "1"}).records
            found.setdefault(name, []).append(record["step_ms"])
    # Ways take turns, and a round is compared with itself: the machine's speed changes from minute to minute.
    rows = []
    for name, times in found.items():
        ratio = statistics.median(ours / theirs for ours, theirs in zip(times, found[PEER]))
        rows.append([name, number(statistics.median(times)), f"{(ratio - 1) * 100:+.1f} %"])
    note = (
        f"A step of DistributedDataParallel with gloo, 2 ranks on one node, 3.7 million parameters: the mean of "
        f"{steps}, the median of {rounds} rounds. More than torchrun: the median of the rounds' ratios."
    )
    return table("Training", note, ["started by", "step, ms", "more than torchrun"], rows)

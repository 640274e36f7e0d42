"""What checkpoints cost the training: one that is stored at once, and one that is written beside it."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from typing import Any

from bench import spaces
from bench.children import Children
from bench.parts import Skipped, table
from bench.table import NOTHING, number

LIMIT_S = 120.0


def checkpoint(children: Children, quick: bool) -> dict[str, Any]:
    """A row for each way of storing."""
    if importlib.util.find_spec("torch") is None:
        raise Skipped("PyTorch is not installed (pip install 'hpc[train]')")
    probe = spaces.ROOT / "bench" / "probes" / "checkpoint.py"
    with tempfile.TemporaryDirectory(prefix="hpc-bench-") as folder:
        records = children.run([sys.executable, str(probe), "2" if quick else "9", folder], LIMIT_S).records
    found = {record["kind"]: record for record in records}
    at_once = found["sync"]
    rows = []
    for kind, title in (("sync", "SYNC: stored at once"), ("async", "ASYNC: beside the training")):
        one = found[kind]
        share = number(one["extra_s"] / at_once["extra_s"]) if at_once["extra_s"] > 0 else NOTHING
        rows.append([title, number(one["call_s"]), number(one["extra_s"]), share])
    note = (
        f"Seconds, the median of the rounds; {at_once['ranks']} rank(s) of a session, on half of the cores, and "
        f"{number(at_once['mb'])} MB of weights and of the optimizer's state by torch.distributed.checkpoint, onto "
        "the disk of temporary files, flushed. report: how long `report_state` takes. Training: how much longer "
        f"{at_once['steps']} steps are (of {number(at_once['step_s'])} s each) that begin with a checkpoint."
    )
    return table("Checkpoints", note, ["checkpoint", "report, s", "training, s longer", "of SYNC"], rows)

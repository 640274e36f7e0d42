"""The record of a run's checkpoints and metrics in its directory, which `hpc.runs.storage` writes, read again."""

from __future__ import annotations

import json
import os
from typing import Any

from hpc.runs.checkpoint import Checkpoint
from hpc.runs.ranking import Stored

RECORD_FILE = "checkpoints.json"


def read_record(path: str) -> tuple[list[Stored], list[dict[str, Any]]]:
    """Checkpoints in the order in which they were made, and the metrics; those whose directory is gone are left out."""
    try:
        with open(os.path.join(path, RECORD_FILE)) as file:
            data = json.load(file)
    except FileNotFoundError:
        return [], []
    found = [Stored(Checkpoint(os.path.join(path, row["name"])), row["metrics"]) for row in data["checkpoints"]]
    return [one for one in found if os.path.isdir(one.checkpoint.path)], data["history"]

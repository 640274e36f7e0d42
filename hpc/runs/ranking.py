"""Which checkpoints of a run stay: pure decisions by number, score and age."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from hpc.runs.checkpoint import Checkpoint
from hpc.runs.config import CheckpointConfig


@dataclass(frozen=True)
class Stored:
    """A checkpoint in the run's directory, and rank 0's metrics of the report that came with it."""

    checkpoint: Checkpoint
    metrics: dict[str, Any]


class Ranking:
    """The checkpoints of a run that are kept, worst first; without a score, oldest first."""

    def __init__(self, config: CheckpointConfig) -> None:
        self.config = config
        self.kept: list[Stored] = []
        self.latest: Stored | None = None

    def score(self, stored: Stored) -> float:
        """The higher the better. A metric that is missing, no number or NaN counts as the worst."""
        value = stored.metrics.get(self.config.checkpoint_score_attribute or "")
        try:
            number = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return -math.inf
        if math.isnan(number):
            return -math.inf
        return number if self.config.checkpoint_score_order == "max" else -number

    def add(self, stored: Stored) -> list[Stored]:
        """A new checkpoint is the latest one. Returns those that are to be deleted: never the latest."""
        self.latest = stored
        self.kept.append(stored)
        if self.config.checkpoint_score_attribute is not None:
            self.kept.sort(key=self.score)  # a stable sort: among equals the newer one is the better
        number = self.config.num_to_keep
        if number is None:
            return []
        extra = [one for one in self.kept[:-number] if one is not stored]
        self.kept = [one for one in self.kept if one not in extra]
        return extra

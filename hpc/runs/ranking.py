"""Which checkpoints of a run stay: pure decisions by number, score and age."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from hpc.runs.checkpoint import Checkpoint
from hpc.runs.config import CheckpointConfig
from hpc.runs.manifest import Manifest

PENDING_VALIDATION: Literal["PENDING_VALIDATION"] = "PENDING_VALIDATION"


@dataclass(eq=False)
class Stored:
    """A checkpoint in the run's directory, and its manifest with rank 0's metrics of the report that came with it."""

    checkpoint: Checkpoint
    manifest: Manifest

    @property
    def metrics(self) -> dict[str, Any]:
        """Of the report, and of the validation once it is done."""
        return self.manifest.metrics


class Ranking:
    """The checkpoints of a run that are kept, worst first; without a score, oldest first."""

    def __init__(self, config: CheckpointConfig) -> None:
        self.config = config
        self.kept: list[Stored] = []
        self.latest: Stored | None = None

    def score(self, metrics: dict[str, Any]) -> float:
        """The higher the better. A metric that is missing, no number or NaN counts as the worst."""
        value = metric(metrics, self.config.checkpoint_score_attribute or "")
        try:
            number = float(value)
        except (TypeError, ValueError):
            return -math.inf
        except OverflowError:  # an integer beyond all floats
            number = math.inf if value > 0 else -math.inf
        if math.isnan(number):
            return -math.inf
        return number if self.config.checkpoint_score_order == "max" else -number

    def add(self, stored: Stored) -> list[Stored]:
        """A new checkpoint is the latest one. Returns those that are to be deleted: never the latest."""
        self.latest = stored
        self.kept.append(stored)
        return self.sift()

    def sift(self) -> list[Stored]:
        """Order them anew. Returns those that are to be deleted: neither the latest nor one that is validated yet."""
        scored = self.config.checkpoint_score_attribute is not None
        # Among equals the newer one is the better.
        self.kept.sort(key=lambda one: (self.score(one.metrics) if scored else 0.0, one.manifest.number))
        number = self.config.num_to_keep
        if number is None:
            return []
        extra = [
            one for one in self.kept[:-number]
            if one is not self.latest and one.manifest.status != PENDING_VALIDATION
        ]  # fmt: skip
        self.kept = [one for one in self.kept if one not in extra]
        return extra


def metric(metrics: dict[str, Any], name: str) -> Any:
    """A metric of this name; "eval/loss" is also the one named "loss" in the dict "eval". None if there is none."""
    if name in metrics:
        return metrics[name]
    first, slash, rest = name.partition("/")
    while slash:
        inner = metrics.get(first)
        if isinstance(inner, dict):
            found = metric(inner, rest)
            if found is not None:
                return found
        more, slash, rest = rest.partition("/")
        first = f"{first}/{more}"
    return None

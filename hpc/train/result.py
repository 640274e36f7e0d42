"""What ``fit`` returns."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass, field
from typing import Any

from hpc.train.checkpoint import Checkpoint
from hpc.train.config import CheckpointConfig
from hpc.train.ranking import Ranking, Stored


@dataclass
class Result:
    """The outcome of a run.

    metrics: what rank 0 reported last. checkpoint: the latest one. best_checkpoints: those that were kept, with their
    metrics, best last. metrics_dataframe: all that rank 0 reported, as a pandas DataFrame, or as a list of dicts where
    there is no pandas. return_value: what the training function returned on rank 0.
    """

    metrics: dict[str, Any] | None
    checkpoint: Checkpoint | None
    error: Exception | None = None
    path: str = ""
    metrics_dataframe: Any = None
    best_checkpoints: list[tuple[Checkpoint, dict[str, Any]]] = field(default_factory=list)
    return_value: Any = None

    def get_best_checkpoint(self, metric: str, mode: str) -> Checkpoint | None:
        """The kept checkpoint whose report had the highest (mode "max") or lowest ("min") value of the metric."""
        ranking = Ranking(CheckpointConfig(checkpoint_score_attribute=metric, checkpoint_score_order=mode))
        having = [Stored(c, m) for c, m in self.best_checkpoints if metric in m]
        return max(having, key=ranking.score).checkpoint if having else None

    @classmethod
    def from_path(cls, path: str | os.PathLike[str]) -> Result:
        """The result of an earlier run, read from its directory. Raises FileNotFoundError if there is none."""
        from hpc.train.storage import read_result

        return read_result(os.fspath(path))


def as_table(history: list[dict[str, Any]]) -> Any:
    """All reports, as a DataFrame where pandas is installed."""
    try:
        pandas = importlib.import_module("pandas")
    except ImportError:
        return history
    return pandas.DataFrame(history)

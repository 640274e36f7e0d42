"""What ``fit`` returns."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass, field
from typing import Any

from hpc.runs.checkpoint import Checkpoint
from hpc.runs.config import CheckpointConfig
from hpc.runs.ranking import Ranking, Stored
from hpc.runs.record import RECORD_FILE, read_record


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
        path = os.path.abspath(os.path.expanduser(os.fspath(path)))
        if not os.path.exists(os.path.join(path, RECORD_FILE)):
            raise FileNotFoundError(f"{path} holds no training run (it has no {RECORD_FILE})")
        stored, history = read_record(path)
        return result_of(path, stored, stored[-1].checkpoint if stored else None, history, None, None)


def result_of(
    path: str,
    kept: list[Stored],
    latest: Checkpoint | None,
    history: list[dict[str, Any]],
    return_value: Any,
    error: Exception | None,
) -> Result:
    """What a run's checkpoints (those that were kept, and the latest), its metrics and its end amount to."""
    return Result(
        metrics=history[-1] if history else None,
        checkpoint=latest,
        error=error,
        path=path,
        metrics_dataframe=as_table(history),
        best_checkpoints=[(one.checkpoint, one.metrics) for one in kept],
        return_value=return_value,
    )


def as_table(history: list[dict[str, Any]]) -> Any:
    """All reports, as a DataFrame where pandas is installed."""
    try:
        pandas = importlib.import_module("pandas")
    except ImportError:
        return history
    return pandas.DataFrame(history)

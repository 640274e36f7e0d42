"""What ``fit`` returns."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass, field
from typing import Any

from hpc.runs.checkpoint import Checkpoint
from hpc.runs.config import CheckpointConfig
from hpc.runs.files import files_of, join, resolve
from hpc.runs.ranking import Ranking, Stored, metric
from hpc.runs.record import HISTORY_FILE, read_history, read_manifests
from hpc.runs.uploading import Place


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
    _storage_filesystem: Any = field(default=None, repr=False)

    @property
    def filesystem(self) -> Any:
        """The pyarrow file system that ``path`` is on."""
        return Checkpoint(self.path, self._storage_filesystem).filesystem

    def get_best_checkpoint(self, metric: str, mode: str) -> Checkpoint | None:
        """The kept checkpoint whose report had the highest (mode "max") or lowest ("min") value of the metric.

        "eval/loss" is also the metric "loss" in the dict "eval". None where no checkpoint is kept. Raises RuntimeError
        where no kept checkpoint has the metric.
        """
        if mode not in ("max", "min"):
            raise ValueError(f'mode must be "max" or "min", not {mode!r}')
        ranking = Ranking(CheckpointConfig(checkpoint_score_attribute=metric, checkpoint_score_order=mode))
        having = [(c, m) for c, m in self.best_checkpoints if _has(m, metric)]
        if having:
            return max(having, key=lambda one: ranking.score(one[1]))[0]
        if self.best_checkpoints:
            names = sorted({name for _, metrics in self.best_checkpoints for name in metrics})
            raise RuntimeError(f"no checkpoint has a metric {metric!r}; there are {', '.join(names)}")
        return None

    @classmethod
    def from_path(cls, path: str | os.PathLike[str], storage_filesystem: Any = None) -> Result:
        """The result of an earlier run, read from its directory, or the URL of one.

        Raises FileNotFoundError if there is none. ``best_checkpoints`` are all that were kept, oldest first.
        """
        filesystem, where = resolve(os.fspath(path), storage_filesystem)
        files = files_of(filesystem)
        if not files.exists(join(where, HISTORY_FILE)):
            raise FileNotFoundError(f"{where} holds no training run (it has no {HISTORY_FILE})")
        stored, _ = read_manifests(files, filesystem, where)
        history = read_history(files, join(where, HISTORY_FILE))
        parent, _, name = where.rpartition("/")
        place = Place(parent, name, "", filesystem)
        return result_of(place, stored, stored[-1].checkpoint if stored else None, history, None, None)


def _has(metrics: dict[str, Any], name: str) -> bool:
    return metric(metrics, name) is not None


def result_of(
    place: Place,
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
        path=place.experiment_fs_path,
        metrics_dataframe=as_table(list(history)),
        best_checkpoints=[(one.checkpoint, one.metrics) for one in kept],
        return_value=return_value,
        _storage_filesystem=place.filesystem,
    )


def as_table(history: list[dict[str, Any]]) -> Any:
    """All reports, as a DataFrame where pandas is installed."""
    try:
        pandas = importlib.import_module("pandas")
    except ImportError:
        return history
    return pandas.DataFrame(history)

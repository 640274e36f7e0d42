"""What ``fit`` returns."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from typing import Any

from hpc.runs.checkpoint import Checkpoint
from hpc.runs.config import CheckpointConfig
from hpc.runs.files import files_of, join, resolve
from hpc.runs.ranking import Ranking, Stored, metric
from hpc.runs.record import HISTORY_FILE, read_history, read_manifests
from hpc.runs.trial_directory import flat_record, is_trial, read_trial
from hpc.runs.uploading import Place

#: What nobody looks for in a result that is printed.
_HIDDEN = frozenset((
    "config", "date", "done", "hostname", "iterations_since_restore", "node_ip", "pid", "time_since_restore",
    "timestamp", "trial_id", "experiment_tag", "should_checkpoint", "training_iteration", "time_total_s",
    "episodes_total", "timesteps_total", "time_this_iter_s", "timesteps_since_restore", "checkpoint_dir_name",
))  # fmt: skip


class Result:
    """The outcome of a run, or of a trial.

    metrics: what was reported last, by rank 0 of a run. checkpoint: the latest one. best_checkpoints: those that were
    kept, with their metrics, best last. metrics_dataframe: all that was reported, as a pandas DataFrame, or as a list
    of dicts where there is no pandas. It may be given as a function that makes it when it is asked for. return_value:
    what the training function returned on rank 0.
    """

    best_checkpoints: list[tuple[Checkpoint, dict[str, Any]]]

    def __init__(
        self,
        metrics: dict[str, Any] | None,
        checkpoint: Checkpoint | None,
        error: Exception | None = None,
        path: str = "",
        metrics_dataframe: Any = None,
        best_checkpoints: Sequence[tuple[Checkpoint, dict[str, Any]]] | None = None,
        return_value: Any = None,
        _storage_filesystem: Any = None,
    ) -> None:
        self.metrics = metrics
        self.checkpoint = checkpoint
        self.error = error
        self.path = path
        self.best_checkpoints = list(best_checkpoints or ())
        self.return_value = return_value
        self._frame: Any = None if callable(metrics_dataframe) else metrics_dataframe
        self._make_frame: Callable[[], Any] | None = metrics_dataframe if callable(metrics_dataframe) else None
        self._storage_filesystem = _storage_filesystem

    @property
    def metrics_dataframe(self) -> Any:
        """All that was reported, a row for each report."""
        if self._make_frame is not None:
            self._frame, self._make_frame = self._make_frame(), None
        return self._frame

    @property
    def config(self) -> dict[str, Any] | None:
        """The configuration of a trial; None for a run that has none."""
        return (self.metrics or {}).get("config")

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
        """The result of an earlier run or trial, read from its directory, or the URL of one. A trial's may be Ray's.

        Raises FileNotFoundError if there is none. ``best_checkpoints`` are all that were kept, oldest first.
        """
        filesystem, where = resolve(os.fspath(path), storage_filesystem)
        files = files_of(filesystem)
        if not files.exists(join(where, HISTORY_FILE)):
            if not is_trial(files, where):
                raise FileNotFoundError(f"{where} holds no training run (it has no {HISTORY_FILE}) and no trial")
            trial = read_trial(files, filesystem, where)
            return cls(
                metrics=trial.history[-1] if trial.history else {},
                checkpoint=trial.checkpoints[-1][0] if trial.checkpoints else None,
                error=trial.error,
                path=where,
                metrics_dataframe=lambda: as_table([flat_record(one) for one in trial.history]),
                best_checkpoints=trial.checkpoints,
                _storage_filesystem=filesystem,
            )
        stored, _ = read_manifests(files, filesystem, where)
        history = read_history(files, join(where, HISTORY_FILE))
        parent, _, name = where.rpartition("/")
        place = Place(parent, name, "", filesystem)
        return result_of(place, stored, stored[-1].checkpoint if stored else None, history, None, None)

    def _repr(self, indent: int = 0) -> str:
        """The result for people, so far from the left."""
        shown: dict[str, Any] = {"error": type(self.error).__name__} if self.error else {}
        shown["metrics"] = {key: one for key, one in (self.metrics or {}).items() if key not in _HIDDEN}
        shown["path"] = self.path
        shown["filesystem"] = "local" if self._storage_filesystem is None else self._storage_filesystem.type_name
        shown["checkpoint"] = self.checkpoint
        margin = " " * indent
        lines = ",\n".join(f"{margin}  {key}={value!r}" for key, value in shown.items())
        return f"{margin}{type(self).__name__}(\n{lines}\n{margin})"

    def __repr__(self) -> str:
        return self._repr()


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

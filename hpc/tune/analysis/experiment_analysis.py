"""What came out of an experiment: its best trial, and tables of all that was reported."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hpc.runs.checkpoint import Checkpoint
from hpc.runs.files import local_filesystem, resolve
from hpc.tune.analysis.frames import frame_of, row_of, table_of
from hpc.tune.analysis.reading import read_source
from hpc.tune.analysis.sources import Known, Source
from hpc.tune.flat import flatten_dict, lookup
from hpc.tune.result import DEFAULT_METRIC, TRAINING_ITERATION
from hpc.tune.values import as_number

if TYPE_CHECKING:
    from hpc.tune.trial import Trial

logger = logging.getLogger(__name__)

SCOPES = ("all", "last", "avg", "last-5-avg", "last-10-avg")


class ExperimentAnalysis:
    """The trials of an experiment and what they have reported.

    experiment_checkpoint_path: the experiment's directory, or its URL; or, of one that Ray has written, its
    ``experiment_state-*.json``. trials: those that are known already; without, they are read. default_metric,
    default_mode ("min", "max"): what trials are compared by where a method is not told.

    Raises ValueError for another mode, and FileNotFoundError where there is no experiment.
    """

    def __init__(
        self,
        experiment_checkpoint_path: str | os.PathLike[str],
        *,
        storage_filesystem: Any = None,
        trials: Sequence[Trial] | None = None,
        default_metric: str | None = None,
        default_mode: str | None = None,
        _source: Source | None = None,
    ) -> None:
        _check_mode(default_mode)
        self.default_metric = DEFAULT_METRIC if default_mode and not default_metric else default_metric
        self.default_mode = default_mode
        self._filesystem, path = resolve(os.fspath(experiment_checkpoint_path), storage_filesystem)
        state_file = path if path.endswith(".json") else None
        self._path = path.rpartition("/")[0] if state_file else path
        if _source is None:
            _source = (
                Known(trials, filesystem=self._filesystem)
                if trials is not None
                else read_source(self._filesystem, self._path, state_file)
            )
        self._source = _source
        self.trials: list[Trial] = list(_source.trials)
        self._frames = _Frames(self.trials, _source)

    @property
    def experiment_path(self) -> str:
        """The experiment's directory, on ``filesystem``."""
        return self._path

    @property
    def filesystem(self) -> Any:
        """The pyarrow file system that the directory is on."""
        return self._filesystem if self._filesystem is not None else local_filesystem()

    # -------------------------------------------------------------- the best

    def get_best_trial(
        self,
        metric: str | None = None,
        mode: str | None = None,
        scope: str = "last",
        filter_nan_and_inf: bool = True,
    ) -> Trial | None:
        """The trial with the best value of a metric ("a/b" of nested ones); None where no trial has one.

        scope: which value of a trial counts: its "last", the best of "all", their "avg", or "last-5-avg" or
        "last-10-avg". filter_nan_and_inf: trials with such a value are passed over. An experiment of one trial has no
        choice. Raises ValueError without a metric or mode, and for an unknown scope.
        """
        if len(self.trials) == 1:
            return self.trials[0]
        metric, mode = self._metric(metric), self._mode(mode)
        if scope not in SCOPES:
            raise ValueError(f"scope must be one of {', '.join(SCOPES)}, not {scope!r}")
        which = mode if scope == "all" else scope
        best, best_score = None, None
        for trial in self.trials:
            score = trial.metric_value(metric, which)
            if score is None or (filter_nan_and_inf and not math.isfinite(as_number(score))):
                continue
            if best_score is None or (score > best_score if mode == "max" else score < best_score):
                best, best_score = trial, score
        if best is None:
            logger.warning("no trial has a value of %s; it has no best one", metric)
        return best

    def get_best_config(
        self, metric: str | None = None, mode: str | None = None, scope: str = "last"
    ) -> dict[str, Any] | None:
        """The configuration of the best trial; see ``get_best_trial``."""
        best = self.get_best_trial(metric, mode, scope)
        return best.config if best is not None else None

    def get_best_checkpoint(
        self, trial: Trial, metric: str | None = None, mode: str | None = None
    ) -> Checkpoint | None:
        """The kept checkpoint of a trial that was reported with the best value; None where none has one."""
        metric, mode = metric or self.default_metric or TRAINING_ITERATION, self._mode(mode)
        scored = [(lookup(metric, metrics), checkpoint) for checkpoint, metrics in self.best_checkpoints(trial)]
        there = [(value, one) for value, one in scored if value is not None and value == value]
        if not there:
            logger.error("trial %s has no checkpoint with a value of %s", trial, metric)
            return None
        sign = 1 if mode == "max" else -1
        found: Checkpoint = max(there, key=lambda pair: sign * pair[0])[1]
        return found

    def best_checkpoints(self, trial: Trial) -> list[tuple[Checkpoint, dict[str, Any]]]:
        """The checkpoints of a trial that are kept for their score, the worst first, with their metrics."""
        return self._source.rule.best(trial.checkpoints)

    def get_last_checkpoint(
        self, trial: Trial | None = None, metric: str = TRAINING_ITERATION, mode: str = "max"
    ) -> Checkpoint | None:
        """The latest kept checkpoint of a trial, or of the best one."""
        trial = trial or self.get_best_trial(metric, mode)
        return self.get_best_checkpoint(trial, TRAINING_ITERATION, "max") if trial is not None else None

    @property
    def best_trial(self) -> Trial:
        """The best trial by the default metric. Raises ValueError where there is none."""
        self._need_defaults("best_trial", "get_best_trial(metric, mode)")
        found = self.get_best_trial()
        if found is None:
            raise ValueError(f"no trial has reported {self.default_metric}")
        return found

    @property
    def best_config(self) -> dict[str, Any]:
        """The configuration of the best trial."""
        self._need_defaults("best_config", "get_best_config(metric, mode)")
        return self.best_trial.config

    @property
    def best_checkpoint(self) -> Checkpoint | None:
        """The best checkpoint of the best trial."""
        self._need_defaults("best_checkpoint", "get_best_checkpoint(trial, metric, mode)")
        return self.get_best_checkpoint(self.best_trial)

    @property
    def best_result(self) -> dict[str, Any]:
        """The last result of the best trial."""
        self._need_defaults("best_result", "get_best_trial(metric, mode).last_result")
        return self.best_trial.last_result

    @property
    def best_dataframe(self) -> Any:
        """All reports of the best trial."""
        self._need_defaults("best_dataframe", "trial_dataframes")
        return self.trial_dataframes[self.best_trial.trial_id]

    @property
    def best_result_df(self) -> Any:
        """The last result of the best trial, as a table of one row."""
        return _by_id([self.best_result])

    # -------------------------------------------------------------- all

    @property
    def results(self) -> dict[str, dict[str, Any]]:
        """The last result of each trial, by its id."""
        return {trial.trial_id: trial.last_result for trial in self.trials}

    @property
    def results_df(self) -> Any:
        """The last result of each trial, a row each."""
        return _by_id([trial.last_result for trial in self.trials])

    @property
    def trial_dataframes(self) -> Mapping[str, Any]:
        """All reports of each trial, by its id; a table is made when it is asked for."""
        return self._frames

    def dataframe(self, metric: str | None = None, mode: str | None = None) -> Any:
        """A row for each trial that has reported: its last result, and its configuration in the columns "config/...".
        With a metric and a mode, the best of all its results.

        Raises ValueError for a mode other than "min" and "max", or without a metric.
        """
        _check_mode(mode)
        if mode and not metric:
            raise ValueError("dataframe(mode=...) needs a metric")
        rows = []
        for trial in self.trials:
            row = row_of(self._source.history(trial), metric, mode)
            if row is not None:
                row.update(flatten_dict({"config": trial.config}))
                rows.append({**row, "logdir": trial.trial_id})
        return table_of(rows)

    def get_all_configs(self, prefix: bool = False) -> dict[str, dict[str, Any]]:
        """The configuration of each trial, by its id. prefix: flat, with keys "config/..."."""
        return {
            trial.trial_id: flatten_dict({"config": trial.config}) if prefix else trial.config for trial in self.trials
        }

    # -------------------------------------------------------------- what is meant

    def _metric(self, metric: str | None) -> str:
        found = metric or self.default_metric
        if not found:
            raise ValueError("which metric? Give metric=..., or set it in TuneConfig")
        return found

    def _mode(self, mode: str | None) -> str:
        _check_mode(mode)
        found = mode or self.default_mode
        if not found:
            raise ValueError('is a small or a large value better? Give mode="min" or "max", or set it in TuneConfig')
        return found

    def _need_defaults(self, name: str, instead: str) -> None:
        if not self.default_metric or not self.default_mode:
            raise ValueError(f"{name} needs the experiment's metric and mode: set both in TuneConfig, or use {instead}")


class _Frames(Mapping[str, Any]):
    """The tables of all trials; each is made once."""

    def __init__(self, trials: Sequence[Trial], source: Source) -> None:
        self._trials = {trial.trial_id: trial for trial in trials}
        self._source = source
        self._made: dict[str, Any] = {}

    def __getitem__(self, trial_id: str) -> Any:
        if trial_id not in self._made:
            self._made[trial_id] = frame_of(self._source.history(self._trials[trial_id]))
        return self._made[trial_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._trials)

    def __len__(self) -> int:
        return len(self._trials)


def _by_id(results: Sequence[dict[str, Any]]) -> Any:
    table = table_of([flatten_dict(one) for one in results])
    return table.set_index("trial_id") if hasattr(table, "set_index") and len(table) else table


def _check_mode(mode: str | None) -> None:
    if mode is not None and mode not in ("min", "max"):
        raise ValueError(f'the mode must be "min" or "max", not {mode!r}')

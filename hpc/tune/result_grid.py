"""`ResultGrid`: what `Tuner.fit` returns. Whoever runs an experiment makes one by `ResultGrid.from_trials`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from hpc.runs.result import Result
from hpc.tune.analysis.experiment_analysis import ExperimentAnalysis
from hpc.tune.analysis.sources import Known
from hpc.tune.retention import Rule

if TYPE_CHECKING:
    from hpc.tune.trial import Trial


class ResultGrid:
    """The results of all trials, finished or not, in the order in which they were made; ``grid[i]`` is a `Result`."""

    def __init__(self, experiment_analysis: ExperimentAnalysis) -> None:
        self._experiment_analysis = experiment_analysis
        self._results: dict[int, Result] = {}

    @classmethod
    def from_trials(
        cls,
        trials: Iterable[Trial],
        experiment_path: str,
        *,
        metric: str | None = None,
        mode: str | None = None,
        filesystem: Any = None,
        history: Callable[[Trial], list[dict[str, Any]]] | None = None,
        rule: Rule | None = None,
    ) -> ResultGrid:
        """The grid of these trials. history: finds all reports of one, when they are asked for; without, they are read
        from its directory. rule: which checkpoints trials keep."""
        source = Known(trials, history, filesystem, rule)
        return cls(
            ExperimentAnalysis(
                experiment_path,
                storage_filesystem=filesystem,
                default_metric=metric,
                default_mode=mode,
                _source=source,
            )
        )

    @property
    def experiment_path(self) -> str:
        """The experiment's directory, on ``filesystem``."""
        return self._experiment_analysis.experiment_path

    @property
    def filesystem(self) -> Any:
        """The pyarrow file system that it is on."""
        return self._experiment_analysis.filesystem

    @property
    def errors(self) -> list[Exception]:
        """The errors of the trials that failed."""
        return [result.error for result in self if result.error]

    @property
    def num_errors(self) -> int:
        """How many trials failed."""
        return sum(trial.status == "ERROR" for trial in self._experiment_analysis.trials)

    @property
    def num_terminated(self) -> int:
        """How many trials ended well."""
        return sum(trial.status == "TERMINATED" for trial in self._experiment_analysis.trials)

    def get_best_result(
        self,
        metric: str | None = None,
        mode: str | None = None,
        scope: str = "last",
        filter_nan_and_inf: bool = True,
    ) -> Result:
        """The result of the trial with the best value of a metric: by default that of TuneConfig.

        scope: which value of a trial counts: its "last", the best of "all", their "avg", or "last-5-avg" or
        "last-10-avg". filter_nan_and_inf: trials with such a value are passed over. Raises ValueError without a metric
        or mode, and RuntimeError where no trial has reported it.
        """
        analysis = self._experiment_analysis
        best = analysis.get_best_trial(metric, mode, scope, filter_nan_and_inf)
        if best is None:
            but = ", or nothing but NaN and infinite values: see filter_nan_and_inf" if filter_nan_and_inf else ""
            raise RuntimeError(f"no trial has reported {metric or analysis.default_metric}{but}")
        return self._result(best)

    def get_dataframe(self, filter_metric: str | None = None, filter_mode: str | None = None) -> Any:
        """A row for each trial: its last result and its configuration; with a metric and a mode, its best result. A
        pandas DataFrame, or a list of dicts where there is no pandas."""
        return self._experiment_analysis.dataframe(metric=filter_metric, mode=filter_mode)

    def _result(self, trial: Trial) -> Result:
        analysis = self._experiment_analysis
        error: Any = trial.error if trial.status != "TERMINATED" else None
        return Result(
            metrics={**trial.last_result, "config": trial.config},
            checkpoint=trial.checkpoint,
            error=error,
            path=trial.path or "",
            metrics_dataframe=lambda: analysis.trial_dataframes[trial.trial_id],
            best_checkpoints=analysis.best_checkpoints(trial),
            _storage_filesystem=analysis._filesystem,
        )

    def __len__(self) -> int:
        return len(self._experiment_analysis.trials)

    def __getitem__(self, i: int) -> Result:
        place = range(len(self))[i]
        if place not in self._results:
            self._results[place] = self._result(self._experiment_analysis.trials[place])
        return self._results[place]

    def __iter__(self) -> Iterator[Result]:
        return (self[place] for place in range(len(self)))

    def __repr__(self) -> str:
        return "ResultGrid<[\n" + ",\n".join(result._repr(indent=2) for result in self) + "\n]>"

"""`Tuner`: an experiment as an object, which runs, goes on, and gives its results."""

from __future__ import annotations

from typing import Any

from hpc.tune.config import RunConfig, TuneConfig
from hpc.tune.plan import make_plan
from hpc.tune.result_grid import ResultGrid


class Tuner:
    """Runs trials of a trainable, each with its own parameters.

    trainable: a function of one argument, a class derived from `hpc.tune.Trainable`, or a registered name. param_space:
    the configuration of the trials, with domains such as ``tune.uniform(0, 1)`` and ``tune.grid_search([1, 2])`` in it.
    tune_config: what is searched for, and how. run_config: the experiment's name, and where its results go.

    Raises TuneError, TypeError or ValueError for what cannot be an experiment, before anything runs.
    """

    def __init__(
        self,
        trainable: Any = None,
        *,
        param_space: dict[str, Any] | None = None,
        tune_config: TuneConfig | None = None,
        run_config: RunConfig | None = None,
    ) -> None:
        self._plan = make_plan(trainable, param_space, tune_config, run_config)
        self._results: ResultGrid | None = None

    def fit(self) -> ResultGrid:
        """Run all trials; their results. A trial that fails has its error in there.

        When the session ends before, trials save, and it raises Drained, a SystemExit. Ctrl-C ends it in order, too,
        with the results that there are.
        """
        from hpc.tune.fitting import Fitting

        fitted = Fitting(self._plan).run()
        tune = self._plan.tune
        self._results = ResultGrid.from_trials(
            fitted.trials,
            self._plan.path,
            metric=tune.metric,
            mode=tune.mode,
            filesystem=self._plan.filesystem,
            history=fitted.history,
        )
        return self._results

    def get_results(self) -> ResultGrid:
        """The results that `fit` has returned. Raises RuntimeError before."""
        if self._results is None:
            raise RuntimeError("there are no results yet: call fit() first")
        return self._results

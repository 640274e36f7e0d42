"""`Tuner`: an experiment as an object, which runs, goes on, and gives its results."""

from __future__ import annotations

import os
from typing import Any

from hpc.runs.files import resolve
from hpc.tune.config import ResumeConfig, RunConfig, TuneConfig
from hpc.tune.ledger import Reports, has_experiment, noted_plan, read_history
from hpc.tune.plan import Plan, make_plan, restored
from hpc.tune.result_grid import ResultGrid


class Tuner:
    """Runs trials of a trainable, each with its own parameters.

    trainable: a function of one argument, a class derived from `hpc.tune.Trainable`, or a registered name. param_space:
    the configuration of the trials, with domains such as ``tune.uniform(0, 1)`` and ``tune.grid_search([1, 2])`` in it.
    tune_config: what is searched for, and how. run_config: the experiment's name, and where its results go. An
    experiment that is there by this name already goes on.

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

    @classmethod
    def restore(
        cls,
        path: str | os.PathLike[str],
        trainable: Any,
        resume_unfinished: bool = True,
        resume_errored: bool = False,
        restart_errored: bool = False,
        param_space: dict[str, Any] | None = None,
        storage_filesystem: Any = None,
        _resume_config: ResumeConfig | None = None,
    ) -> Tuner:
        """The Tuner of the experiment in this directory, with the configurations that it was made with.

        trainable, param_space: the same as before; a space that is not given is the one before. Unfinished trials go on
        from their latest checkpoint, unless resume_unfinished is False. Trials that have failed stay as they are:
        resume_errored has them go on, restart_errored begin anew.

        Raises FileNotFoundError where there is no experiment, and ValueError for another trainable or other parameters.
        """
        kinds = ResumeConfig.ResumeType
        errored = kinds.RESUME if resume_errored else kinds.RESTART if restart_errored else kinds.SKIP
        unfinished = kinds.RESUME if resume_unfinished else kinds.SKIP
        resume = _resume_config or ResumeConfig(unfinished=unfinished, errored=errored)
        tuner = cls.__new__(cls)
        tuner._plan = _plan_of(os.fspath(path), trainable, param_space, storage_filesystem, resume)
        tuner._results = None
        return tuner

    @classmethod
    def can_restore(cls, path: str | os.PathLike[str], storage_filesystem: Any = None) -> bool:
        """Whether there is an experiment in this directory."""
        filesystem, where = resolve(os.fspath(path), storage_filesystem)
        return has_experiment(filesystem, where)

    def fit(self) -> ResultGrid:
        """Run all trials; their results. A trial that fails has its error in there.

        When the session ends before, trials save, and it raises Drained, a SystemExit: the experiment goes on in the
        next job. Ctrl-C ends it in order, too, and gives the results that there are.
        """
        from hpc.tune.fitting import Fitting

        fitted = Fitting(self._plan).run()
        self._results = _grid(self._plan, fitted.trials, fitted.history)
        return self._results

    def get_results(self) -> ResultGrid:
        """The results of an experiment that has run, here or before. Raises RuntimeError where there are none yet."""
        if self._results is None:
            plan = self._plan
            if not has_experiment(plan.filesystem, plan.path):
                raise RuntimeError(f"the experiment {plan.run.name} has no results yet: call fit() first")
            self._results = _grid(
                plan, read_history(plan.path, plan.filesystem).made, Reports(plan.path, plan.filesystem)
            )
        return self._results


def _grid(plan: Plan, trials: list[Any], history: Any) -> ResultGrid:
    tune = plan.tune
    return ResultGrid.from_trials(
        trials,
        plan.path,
        metric=tune.metric,
        mode=tune.mode,
        filesystem=plan.filesystem,
        history=history,
        rule=plan.retention,
    )


def _plan_of(path: str, trainable: Any, space: Any, filesystem: Any, resume: ResumeConfig) -> Plan:
    found, where = resolve(path, filesystem)
    if not has_experiment(found, where):
        raise FileNotFoundError(f"{path} holds no experiment: give the directory storage_path/name")
    return restored(noted_plan(where, found), where, found, trainable, space, resume)

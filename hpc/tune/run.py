"""`run` and `run_experiments`: experiments as function calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hpc.tune.analysis import ExperimentAnalysis
from hpc.tune.config import CheckpointConfig, FailureConfig, ResumeConfig, RunConfig, SyncConfig, TuneConfig
from hpc.tune.error import TuneError
from hpc.tune.experiment import Experiment, experiments_of
from hpc.tune.fitting import Fitted, Fitting
from hpc.tune.plan import Plan, make_plan
from hpc.tune.trial import Trial

_RESUMES = ("AUTO", "LOCAL", "REMOTE", "PROMPT", "ERRORED_ONLY")


def run(
    run_or_experiment: Any,
    *,
    name: str | None = None,
    metric: str | None = None,
    mode: Any = None,
    stop: Any = None,
    time_budget_s: Any = None,
    config: dict[str, Any] | None = None,
    resources_per_trial: Any = None,
    num_samples: int = 1,
    storage_path: str | None = None,
    storage_filesystem: Any = None,
    search_alg: Any = None,
    scheduler: Any = None,
    checkpoint_config: CheckpointConfig | None = None,
    verbose: int | None = None,
    progress_reporter: Any = None,
    log_to_file: Any = False,
    trial_name_creator: Callable[[Trial], str] | None = None,
    trial_dirname_creator: Callable[[Trial], str] | None = None,
    sync_config: SyncConfig | None = None,
    max_failures: int = 0,
    fail_fast: bool | str = False,
    resume: bool | str | None = None,
    resume_config: ResumeConfig | None = None,
    reuse_actors: bool = False,
    raise_on_failed_trial: bool = True,
    callbacks: Sequence[Any] | None = None,
    max_concurrent_trials: int | None = None,
) -> ExperimentAnalysis:
    """Run an experiment; what came of it. The arguments are those of `hpc.tune.TuneConfig` and `hpc.tune.RunConfig`.

    config: the space. resources_per_trial: a dict, or a PlacementGroupFactory. resume: what becomes of trials that have
    failed in the experiment of this name: "AUTO+ERRORED" has them go on, "AUTO+RESTART_ERRORED" begin anew. Of an
    Experiment the arguments are its own, and of these only those that it does not have.

    Raises TuneError when trials have failed, unless raise_on_failed_trial is False.
    """
    search = {
        "metric": metric, "mode": mode, "search_alg": search_alg, "scheduler": scheduler,
        "max_concurrent_trials": max_concurrent_trials, "reuse_actors": reuse_actors,
    }  # fmt: skip
    shown: dict[str, Any] = {"verbose": verbose, "callbacks": callbacks, "progress_reporter": progress_reporter}
    again = resuming(resume, resume_config)
    if isinstance(run_or_experiment, Experiment):
        plan = run_or_experiment.plan(search, shown, again)
    else:
        tune = TuneConfig(
            **search, num_samples=num_samples, time_budget_s=time_budget_s, trial_name_creator=trial_name_creator,
            trial_dirname_creator=trial_dirname_creator,
        )  # fmt: skip
        options = RunConfig(
            name, storage_path, storage_filesystem, FailureConfig(max_failures, fail_fast),
            checkpoint_config or CheckpointConfig(), sync_config or SyncConfig(), stop=stop,
            log_to_file=log_to_file, **shown,
        )  # fmt: skip
        plan = make_plan(run_or_experiment, config, tune, options, resources_per_trial, again)
    fitted = _fit(plan, raise_on_failed_trial)
    return fitted.analysis(plan)


def run_experiments(
    experiments: Any,
    scheduler: Any = None,
    verbose: int | None = None,
    progress_reporter: Any = None,
    resume: bool | str | None = None,
    resume_config: ResumeConfig | None = None,
    reuse_actors: bool = False,
    raise_on_failed_trial: bool = True,
    concurrent: bool = True,
    callbacks: Sequence[Any] | None = None,
) -> list[Trial]:
    """Run experiments, one after the other; all their trials. experiments: of `hpc.tune.Experiment`, or a dict of their
    arguments by their names. concurrent: taken for Ray's programs; each experiment uses all nodes anyway.

    Raises TuneError when trials have failed, unless raise_on_failed_trial is False.
    """
    shown: dict[str, Any] = {"verbose": verbose, "callbacks": callbacks, "progress_reporter": progress_reporter}
    search = {"scheduler": scheduler, "reuse_actors": reuse_actors}
    again = resuming(resume, resume_config)
    plans = [one.plan(search, shown, again) for one in experiments_of(experiments)]
    return [trial for plan in plans for trial in _fit(plan, raise_on_failed_trial).trials]


def _fit(plan: Plan, raises: bool) -> Fitted:
    fitted = Fitting(plan).run()
    failed = [trial for trial in fitted.trials if trial.status == Trial.ERROR]
    if failed and raises:
        raise TuneError("Trials did not complete", failed)
    return fitted


def resuming(resume: bool | str | None, config: ResumeConfig | None) -> ResumeConfig | None:
    """What ``resume`` says of the trials that there are. Raises ValueError for what says nothing."""
    if config is not None or resume is None or isinstance(resume, bool):
        return config
    kind, _, errored = resume.upper().partition("+")
    if kind not in _RESUMES or errored.removesuffix("_ONLY") not in ("", "ERRORED", "RESTART_ERRORED"):
        raise ValueError(f"resume must be a bool or a word such as 'AUTO+ERRORED', not {resume!r}")
    if kind == "ERRORED_ONLY":
        return ResumeConfig(unfinished="SKIP", errored="RESUME")
    unfinished = "SKIP" if errored.endswith("_ONLY") else "RESUME"
    if not errored:
        return ResumeConfig()
    return ResumeConfig(unfinished=unfinished, errored="RESTART" if errored.startswith("RESTART") else "RESUME")

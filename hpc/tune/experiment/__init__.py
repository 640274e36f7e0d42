"""An experiment as an object, for `hpc.tune.run` and `hpc.tune.run_experiments`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hpc.tune.config import CheckpointConfig, FailureConfig, ResumeConfig, RunConfig, SyncConfig, TuneConfig
from hpc.tune.error import TuneError
from hpc.tune.plan import Plan, make_plan
from hpc.tune.trial import Trial as Trial


class Experiment:
    """A trainable, its space, and how it is run. The arguments are those of `hpc.tune.run`.

    Raises TuneError, TypeError or ValueError for what cannot be an experiment.
    """

    def __init__(
        self,
        name: str,
        run: Any,
        *,
        stop: Any = None,
        time_budget_s: Any = None,
        config: dict[str, Any] | None = None,
        resources_per_trial: Any = None,
        num_samples: int = 1,
        storage_path: str | None = None,
        storage_filesystem: Any = None,
        sync_config: SyncConfig | None = None,
        checkpoint_config: CheckpointConfig | dict[str, Any] | None = None,
        trial_name_creator: Callable[[Trial], str] | None = None,
        trial_dirname_creator: Callable[[Trial], str] | None = None,
        log_to_file: Any = False,
        max_failures: int = 0,
    ) -> None:
        if isinstance(checkpoint_config, dict):
            checkpoint_config = CheckpointConfig(**checkpoint_config)
        self.name = name
        self._run = run
        self._config = config
        self._resources = resources_per_trial
        self._search = {
            "num_samples": num_samples,
            "time_budget_s": time_budget_s,
            "trial_name_creator": trial_name_creator,
            "trial_dirname_creator": trial_dirname_creator,
        }
        self._options = {
            "name": name,
            "storage_path": storage_path,
            "storage_filesystem": storage_filesystem,
            "failure_config": FailureConfig(max_failures),
            "checkpoint_config": checkpoint_config,
            "sync_config": sync_config,
            "stop": stop,
            "log_to_file": log_to_file,
        }
        self.plan()

    def plan(
        self, search: Mapping[str, Any] | None = None, options: Mapping[str, Any] | None = None,
        resume: ResumeConfig | None = None,
    ) -> Plan:  # fmt: skip
        """The plan of it. search, options: more of TuneConfig and RunConfig."""
        tune = TuneConfig(**{**self._search, **(search or {})})
        run = RunConfig(**{**self._options, **(options or {})})
        return make_plan(self._run, self._config, tune, run, self._resources, resume)


def experiments_of(given: Any) -> list[Experiment]:
    """The experiments that these are: one, several, or a dict of the arguments of each by its name.

    Raises TuneError for anything else.
    """
    if isinstance(given, Experiment):
        return [given]
    if isinstance(given, Mapping):
        return [Experiment(name, **spec) for name, spec in given.items()]
    if isinstance(given, Sequence) and not isinstance(given, str):
        return [one for part in given for one in experiments_of(part)]
    raise TuneError(f"experiments are tune.Experiment objects, or dicts by their names, not {type(given).__name__}")

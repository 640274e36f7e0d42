"""MLflow: a run for each trial."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from hpc.tune.flat import flatten_dict
from hpc.tune.logger.tracking import Nothing, TrackingCallback, need, numbers_of, step_of, where_am_i

if TYPE_CHECKING:
    from hpc.tune.trial import Trial

#: What MLflow takes in one call.
_MOST_PARAMS = 100
_MOST_CHARACTERS = 6000


class MLflowLoggerCallback(TrackingCallback):
    """Makes a run of MLflow of each trial, in the experiment ``experiment_name`` (else MLFLOW_EXPERIMENT_ID or
    MLFLOW_EXPERIMENT_NAME); it is made where there is none.

    tracking_uri, registry_uri: of the server. tags: of each run. tracking_token: sets MLFLOW_TRACKING_TOKEN.
    save_artifact: the trial's directory is sent at its end. log_params_on_trial_end: its configuration is sent at its
    end, not at its start. Raises ImportError without the package mlflow.
    """

    def __init__(
        self,
        tracking_uri: str | None = None,
        *,
        registry_uri: str | None = None,
        experiment_name: str | None = None,
        tags: dict[str, Any] | None = None,
        tracking_token: str | None = None,
        save_artifact: bool = False,
        log_params_on_trial_end: bool = False,
    ) -> None:
        super().__init__()
        self._mlflow = need("mlflow", "mlflow", "MLflowLoggerCallback")
        self.tracking_uri = tracking_uri
        self.registry_uri = registry_uri
        self.experiment_name = experiment_name
        self.tags = dict(tags or {})
        self.tracking_token = tracking_token
        self.should_save_artifact = save_artifact
        self.log_params_on_trial_end = log_params_on_trial_end
        self._client: Any = None
        self._experiment_id = ""
        self._runs: dict[str, str] = {}

    def setup(
        self, stop: Any = None, num_samples: int | None = None, total_num_samples: int | None = None, **info: Any
    ) -> None:
        """Find or make the experiment. Raises ValueError without a name of one."""
        if self.tracking_token:
            os.environ["MLFLOW_TRACKING_TOKEN"] = self.tracking_token
        self._client = self._mlflow.MlflowClient(tracking_uri=self.tracking_uri, registry_uri=self.registry_uri)
        self._experiment_id = find_experiment(self._client, None, self.experiment_name, make=True)

    def log_trial_start(self, trial: Trial) -> None:
        self._later(self._start, trial.trial_id, str(trial), dict(trial.config))

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        self._later(self._report, trial.trial_id, numbers_of(result), step_of(result), time.time())

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        self._later(self._end, trial.trial_id, trial.path, dict(trial.config), failed)

    def _start(self, trial_id: str, name: str, config: dict[str, Any]) -> None:
        if trial_id not in self._runs:
            tags = {**self.tags, "trial_name": name}
            run = self._client.create_run(experiment_id=self._experiment_id, run_name=name, tags=tags)
            self._runs[trial_id] = run.info.run_id
        if not self.log_params_on_trial_end:
            log_params(self._mlflow, self._client, self._runs[trial_id], config)

    def _report(self, trial_id: str, numbers: dict[str, float], step: int, now: float) -> None:
        metric = self._mlflow.entities.Metric
        made = [metric(key, value, int(now * 1000), step) for key, value in numbers.items()]
        self._client.log_batch(self._runs[trial_id], metrics=made)

    def _end(self, trial_id: str, path: str | None, config: dict[str, Any], failed: bool) -> None:
        run = self._runs[trial_id]
        if self.should_save_artifact and path and os.path.isdir(path):
            self._client.log_artifacts(run, path)
        if self.log_params_on_trial_end:
            log_params(self._mlflow, self._client, run, config)
        self._client.set_terminated(run, status="FAILED" if failed else "FINISHED")


def setup_mlflow(
    config: dict[str, Any] | None = None,
    tracking_uri: str | None = None,
    registry_uri: str | None = None,
    experiment_id: str | None = None,
    experiment_name: str | None = None,
    tracking_token: str | None = None,
    artifact_location: str | None = None,
    run_name: str | None = None,
    create_experiment_if_not_exists: bool = False,
    tags: dict[str, Any] | None = None,
    rank_zero_only: bool = True,
) -> Any:
    """Begin a run of MLflow in a trial, and return the module mlflow: ``mlflow.log_metric(...)`` is called on it.

    The experiment's and the run's names are those of the experiment and the trial, unless they are given. config is
    sent as parameters. rank_zero_only: the other ranks of a training run get an object that sends nothing. Raises
    ImportError without the package mlflow, and ValueError for an experiment that is not there.
    """
    mlflow, here = need("mlflow", "mlflow", "setup_mlflow"), where_am_i()
    if rank_zero_only and here.rank:
        return Nothing()
    if tracking_token:
        os.environ["MLFLOW_TRACKING_TOKEN"] = tracking_token
    mlflow.set_tracking_uri(tracking_uri)
    mlflow.set_registry_uri(registry_uri)
    client = mlflow.MlflowClient(tracking_uri=tracking_uri, registry_uri=registry_uri)
    name = experiment_name or here.experiment
    found = find_experiment(client, experiment_id, name, create_experiment_if_not_exists, artifact_location)
    name = run_name or here.trial_name or experiment_name
    run = mlflow.active_run() or mlflow.start_run(run_name=name, experiment_id=found, tags=tags)
    log_params(mlflow, client, run.info.run_id, config or {})
    return mlflow


def find_experiment(client: Any, experiment_id: str | None, name: str | None, make: bool, place: Any = None) -> str:
    """The id of an experiment of MLflow. Raises ValueError for one that is not there, and without a name."""
    experiment_id = experiment_id or os.environ.get("MLFLOW_EXPERIMENT_ID")
    name = name or os.environ.get("MLFLOW_EXPERIMENT_NAME")
    if experiment_id is not None:
        try:
            return str(client.get_experiment(experiment_id).experiment_id)
        except Exception:
            if not name:
                raise
    if not name:
        raise ValueError("MLflow needs an experiment: give experiment_name, or set MLFLOW_EXPERIMENT_NAME")
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    if not make:
        raise ValueError(f"MLflow has no experiment {name!r}: give create_experiment_if_not_exists=True to make it")
    return str(client.create_experiment(name, artifact_location=place))


def log_params(mlflow: Any, client: Any, run_id: str, config: dict[str, Any]) -> None:
    """Send a configuration, flat."""
    rows = [(key, str(value)[:_MOST_CHARACTERS]) for key, value in flatten_dict(config).items()]
    for first in range(0, len(rows), _MOST_PARAMS):
        made = [mlflow.entities.Param(key, value) for key, value in rows[first : first + _MOST_PARAMS]]
        client.log_batch(run_id, params=made)

"""What an iteration reports of learners and groups of env runners, and how long it goes on."""

from __future__ import annotations

import time
from typing import Any

from hpc.rllib.core import ALL_MODULES
from hpc.rllib.utils import metrics as keys
from hpc.rllib.utils.metrics.metrics_logger import MetricsLogger
from hpc.rllib.utils.metrics.stats import StatsBase


def log_learner_results(metrics: MetricsLogger, results: Any) -> None:
    """Take what learners have returned: a dict by module, or a list with one for each learner."""
    listed = results if isinstance(results, (list, tuple)) else [results]
    stats = [one for one in listed if _has_stats(one)]
    if stats:
        metrics.aggregate(stats, key=keys.LEARNER_RESULTS)
    for one in listed:
        if one and not _has_stats(one):
            metrics.log_dict(one, key=keys.LEARNER_RESULTS, window=1)


def _has_stats(results: Any) -> bool:
    if isinstance(results, dict):
        return any(_has_stats(value) for value in results.values())
    return isinstance(results, StatsBase)


class Bounds:
    """How long an iteration goes on: its least time and numbers of steps are to be reached."""

    def __init__(self, algorithm: Any) -> None:
        self._algorithm = algorithm
        self._began_s = time.monotonic()
        self._sampled, self._trained = self._counts()

    def is_over(self) -> bool:
        """Whether all bounds are reached."""
        config = self._algorithm.config
        sampled, trained = self._counts()
        return (
            time.monotonic() - self._began_s >= (config.min_time_s_per_iteration or 0.0)
            and sampled - self._sampled >= (config.min_sample_timesteps_per_iteration or 0)
            and trained - self._trained >= (config.min_train_timesteps_per_iteration or 0)
        )

    def _counts(self) -> tuple[float, float]:
        peek = self._algorithm.metrics.peek
        agents = self._algorithm.config.count_steps_by == "agent_steps"
        name = keys.NUM_AGENT_STEPS_SAMPLED_LIFETIME if agents else keys.NUM_ENV_STEPS_SAMPLED_LIFETIME
        sampled = peek((keys.ENV_RUNNER_RESULTS, name), default=0)
        what = keys.NUM_MODULE_STEPS_TRAINED_LIFETIME if agents else keys.NUM_ENV_STEPS_TRAINED_LIFETIME
        trained = peek((keys.LEARNER_RESULTS, ALL_MODULES, what), default=0)
        return sum(sampled.values()) if isinstance(sampled, dict) else sampled, trained


def group_report(group: Any) -> dict[str, Any]:
    """The counters of a group of env runners."""
    return {
        "num_healthy_workers": group.num_healthy_remote_env_runners(),
        "num_remote_worker_restarts": group.num_remote_worker_restarts(),
        "num_env_runners_dropped_lifetime": group.num_env_runners_dropped_lifetime(),
        **group.counters(),
    }


def requests_report(group: Any) -> dict[str, int]:
    """How many calls of a group were not answered yet."""
    return {"actor_manager_num_outstanding_async_reqs": group.num_in_flight_async_reqs()}

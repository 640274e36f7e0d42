"""Settings of evaluation, reports, callbacks, checkpoints, seeds, and of what happens when processes fail."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hpc.rllib.algorithms.config.given import NotProvided, merged, section
from hpc.rllib.callbacks.callbacks import HOOKS, RLlibCallback
from hpc.rllib.utils.metrics.stats import DEFAULT_STATS_CLS_LOOKUP

if TYPE_CHECKING:
    from typing_extensions import Self

Calls = Callable[..., Any] | list[Callable[..., Any]] | None


class JudgingSections:
    """evaluation, reporting, callbacks, checkpointing, debugging, fault_tolerance."""

    if TYPE_CHECKING:

        def _take(self, given: dict[str, Any]) -> Self: ...

    def _judging_defaults(self) -> None:
        self.callbacks_class: Any = RLlibCallback
        for hook in HOOKS:
            setattr(self, f"callbacks_{hook}", None)
        self._evaluation_defaults()
        self.keep_per_episode_custom_metrics = False
        self.metrics_episode_collection_timeout_s = 60.0
        self.metrics_num_episodes_for_smoothing = 100
        self.min_time_s_per_iteration: float | None = None
        self.min_train_timesteps_per_iteration = 0
        self.min_sample_timesteps_per_iteration = 0
        self.log_gradients = False
        self.stats_cls_lookup: dict[str, type] = dict(DEFAULT_STATS_CLS_LOOKUP)
        self.checkpoint_trainable_policies_only = False
        self.log_level = "WARN"
        self.log_sys_usage = True
        self.seed: int | None = None
        self._fault_tolerance_defaults()

    def _evaluation_defaults(self) -> None:
        self.evaluation_interval: int | None = None
        self.evaluation_duration: int | str = 10
        self.evaluation_duration_unit = "episodes"
        self.evaluation_sample_timeout_s: float | None = 120.0
        self.evaluation_auto_duration_min_env_steps_per_sample = 100
        self.evaluation_auto_duration_max_env_steps_per_sample = 2000
        self.evaluation_parallel_to_training = False
        self.evaluation_unhealthy_workers_timeout_s = 0.0
        self.evaluation_error_after_n_consecutive_skips: int | None = None
        self.evaluation_force_reset_envs_before_iteration = True
        self.evaluation_config: Any = None
        self.evaluation_num_env_runners = 0
        self.custom_evaluation_function: Callable[..., Any] | None = None
        self.in_evaluation = False

    def _fault_tolerance_defaults(self) -> None:
        self.restart_failed_env_runners = True
        self.ignore_env_runner_failures = False
        self.max_num_env_runner_restarts = 1000
        self.delay_between_env_runner_restarts_s = 60.0
        self.restart_failed_sub_environments = False
        self.num_consecutive_env_runner_failures_tolerance = 100
        self.env_runner_health_probe_timeout_s = 30.0
        self.env_runner_restore_timeout_s = 1800.0

    @section
    def callbacks(
        self,
        callbacks_class: Any = NotProvided,
        *,
        on_algorithm_init: Calls = NotProvided,
        on_train_result: Calls = NotProvided,
        on_evaluate_start: Calls = NotProvided,
        on_evaluate_end: Calls = NotProvided,
        on_env_runners_recreated: Calls = NotProvided,
        on_checkpoint_loaded: Calls = NotProvided,
        on_environment_created: Calls = NotProvided,
        on_episode_created: Calls = NotProvided,
        on_episode_start: Calls = NotProvided,
        on_episode_step: Calls = NotProvided,
        on_episode_end: Calls = NotProvided,
        on_sample_end: Calls = NotProvided,
    ) -> Self:
        """Set what is called: a class (or several) derived from RLlibCallback, and functions, after the classes."""
        if callbacks_class is None:
            callbacks_class = RLlibCallback
        if callbacks_class is not NotProvided:
            several = callbacks_class if isinstance(callbacks_class, (list, tuple)) else [callbacks_class]
            if not all(callable(one) for one in several):
                raise ValueError(
                    "`config.callbacks_class` must be a callable or list of callables that returns a subclass of "
                    f"RLlibCallback, got {callbacks_class}!"
                )
        given = locals()
        return self._take(
            {f"callbacks_{key}" if key in HOOKS else key: given[key] for key in given if key != "several"}
        )

    @section
    def evaluation(
        self,
        *,
        evaluation_interval: int | None = NotProvided,
        evaluation_duration: int | str = NotProvided,
        evaluation_duration_unit: str = NotProvided,
        evaluation_auto_duration_min_env_steps_per_sample: int = NotProvided,
        evaluation_auto_duration_max_env_steps_per_sample: int = NotProvided,
        evaluation_sample_timeout_s: float | None = NotProvided,
        evaluation_parallel_to_training: bool = NotProvided,
        evaluation_unhealthy_workers_timeout_s: float = NotProvided,
        evaluation_error_after_n_consecutive_skips: int | None = NotProvided,
        evaluation_force_reset_envs_before_iteration: bool = NotProvided,
        evaluation_config: Any = NotProvided,
        evaluation_num_env_runners: int = NotProvided,
        custom_evaluation_function: Callable[..., Any] | None = NotProvided,
    ) -> Self:
        """Set when and how what was learnt is evaluated.

        evaluation_interval: after so many iterations; None: only when `Algorithm.evaluate` is called.
        evaluation_duration: so many of evaluation_duration_unit ("episodes" or "timesteps"), or "auto": as long as the
        iteration beside it trains. evaluation_parallel_to_training: beside an iteration, with the weights before it.
        evaluation_config: settings over the algorithm's: a dict, or a whole AlgorithmConfig.
        evaluation_num_env_runners: actors that evaluate; 0: the algorithm's own process does.
        custom_evaluation_function: of (algorithm, env_runner_group): (results, env steps, agent steps).
        """
        if isinstance(evaluation_config, dict):
            evaluation_config = _over(self.evaluation_config, evaluation_config)
        return self._take(locals())

    @section
    def reporting(
        self,
        *,
        keep_per_episode_custom_metrics: bool = NotProvided,
        metrics_episode_collection_timeout_s: float = NotProvided,
        metrics_num_episodes_for_smoothing: int = NotProvided,
        min_time_s_per_iteration: float | None = NotProvided,
        min_train_timesteps_per_iteration: int | None = NotProvided,
        min_sample_timesteps_per_iteration: int | None = NotProvided,
        log_gradients: bool = NotProvided,
        custom_stats_cls_lookup: dict[str, type] = NotProvided,
    ) -> Self:
        """Set how long an iteration is at least, and over how many episodes means of episodes go.

        custom_stats_cls_lookup: classes of Stats by the names that ``log_value(reduce=..)`` takes.
        """
        given = locals()
        given["stats_cls_lookup"] = given.pop("custom_stats_cls_lookup")
        return self._take(given)

    @section
    def checkpointing(self, *, checkpoint_trainable_policies_only: bool = NotProvided) -> Self:
        """Set whether modules that do not learn are left out of checkpoints."""
        return self._take(locals())

    @section
    def debugging(
        self, *, log_level: str = NotProvided, log_sys_usage: bool = NotProvided, seed: int | None = NotProvided
    ) -> Self:
        """Set the seed of all: modules, environments of each runner, actions. The level of logs is DEBUG to ERROR.

        log_sys_usage: taken for RLlib's programs; what processes use is at the dashboard.
        """
        return self._take(locals())

    @section
    def fault_tolerance(
        self,
        *,
        restart_failed_env_runners: bool = NotProvided,
        ignore_env_runner_failures: bool = NotProvided,
        max_num_env_runner_restarts: int = NotProvided,
        delay_between_env_runner_restarts_s: float = NotProvided,
        restart_failed_sub_environments: bool = NotProvided,
        num_consecutive_env_runner_failures_tolerance: int = NotProvided,
        env_runner_health_probe_timeout_s: float = NotProvided,
        env_runner_restore_timeout_s: float = NotProvided,
    ) -> Self:
        """Set what happens when a runner or an environment fails.

        restart_failed_env_runners: begin it again, with the current weights, each at most max_num_env_runner_restarts
        times.
        ignore_env_runner_failures: go on without it. restart_failed_sub_environments: a runner makes an environment
        that raised anew, as opposed to failing itself.
        env_runner_health_probe_timeout_s: how long a runner may make no step, after sample_timeout_s without a sample.
        Then it counts as lost. env_runner_restore_timeout_s: how long one that is made anew may take to come up.
        """
        return self._take(locals())


def _over(before: Any, given: dict[str, Any]) -> Any:
    """The settings of before, a dict or a whole configuration, with those over them."""
    if before is None or isinstance(before, dict):
        return merged(copy.deepcopy(before or {}), given)
    return before.copy().update_from_dict(given)

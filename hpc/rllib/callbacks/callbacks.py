"""The base of callbacks: an algorithm calls its methods, and so do env runners."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpc.rllib.utils.metrics.metrics_logger import MetricsLogger

#: The hooks that a function can be given for, by ``config.callbacks(on_..=)``.
HOOKS = (
    "on_algorithm_init",
    "on_train_result",
    "on_evaluate_start",
    "on_evaluate_end",
    "on_env_runners_recreated",
    "on_checkpoint_loaded",
    "on_environment_created",
    "on_episode_created",
    "on_episode_start",
    "on_episode_step",
    "on_episode_end",
    "on_sample_end",
)

#: Hooks of the old API stack, which nobody calls, and those in their place.
OLD_HOOKS = {
    "on_sub_environment_created": "on_environment_created",
    "on_postprocess_trajectory": "a learner connector: config.learners(learner_connector=..)",
    "on_learn_on_batch": "a learner connector: config.learners(learner_connector=..)",
    "on_create_policy": "on_algorithm_init",
    "on_workers_recreated": "on_env_runners_recreated",
    "on_evaluate_offline_start": "on_evaluate_start",
    "on_evaluate_offline_end": "on_evaluate_end",
    "on_offline_eval_runners_recreated": "on_env_runners_recreated",
}


class RLlibCallback:
    """Derive from it, and define the methods that you want; pass the class to ``config.callbacks``.

    Each process has its own object. All arguments are given by keyword; take ``**kwargs`` for those to come. What is
    logged to metrics_logger in an env runner is in the results under "env_runners", and in the algorithm at the top.
    """

    def on_algorithm_init(self, *, algorithm: Any, metrics_logger: MetricsLogger | None = None, **kwargs: Any) -> None:
        """The algorithm is complete; nothing was sampled."""

    def on_train_result(
        self,
        *,
        algorithm: Any,
        metrics_logger: MetricsLogger | None = None,
        result: dict[str, Any],
        **kwargs: Any,
    ) -> None:
        """An iteration has ended with this result, which may be changed."""

    def on_evaluate_start(self, *, algorithm: Any, metrics_logger: MetricsLogger | None = None, **kwargs: Any) -> None:
        """An evaluation begins."""

    def on_evaluate_end(
        self,
        *,
        algorithm: Any,
        metrics_logger: MetricsLogger | None = None,
        evaluation_metrics: dict[str, Any],
        **kwargs: Any,
    ) -> None:
        """An evaluation has ended with these metrics, which may be changed."""

    def on_env_runners_recreated(
        self,
        *,
        algorithm: Any,
        env_runner_group: Any,
        env_runner_indices: list[int],
        is_evaluation: bool,
        **kwargs: Any,
    ) -> None:
        """These env runners have failed and are there again, with the current weights."""

    def on_checkpoint_loaded(self, *, algorithm: Any, **kwargs: Any) -> None:
        """The algorithm has taken up the state of a checkpoint."""

    def on_environment_created(
        self,
        *,
        env_runner: Any,
        metrics_logger: MetricsLogger | None = None,
        env: Any,
        env_context: Any,
        **kwargs: Any,
    ) -> None:
        """An env runner has made its vector of environments."""

    def on_episode_created(
        self,
        *,
        episode: Any,
        env_runner: Any = None,
        metrics_logger: MetricsLogger | None = None,
        env: Any = None,
        env_index: int,
        rl_module: Any = None,
        **kwargs: Any,
    ) -> None:
        """An episode is there; its environment was not reset yet."""

    def on_episode_start(
        self,
        *,
        episode: Any,
        env_runner: Any = None,
        metrics_logger: MetricsLogger | None = None,
        env: Any = None,
        env_index: int,
        rl_module: Any = None,
        **kwargs: Any,
    ) -> None:
        """The environment was reset: the episode has its first observation."""

    def on_episode_step(
        self,
        *,
        episode: Any,
        env_runner: Any = None,
        metrics_logger: MetricsLogger | None = None,
        env: Any = None,
        env_index: int,
        rl_module: Any = None,
        **kwargs: Any,
    ) -> None:
        """The environment was stepped: action, reward and observation are in the episode."""

    def on_episode_end(
        self,
        *,
        episode: Any,
        prev_episode_chunks: list[Any] | None = None,
        env_runner: Any = None,
        metrics_logger: MetricsLogger | None = None,
        env: Any = None,
        env_index: int,
        rl_module: Any = None,
        **kwargs: Any,
    ) -> None:
        """The episode is terminated or truncated. prev_episode_chunks: its parts in earlier samples."""

    def on_sample_end(
        self,
        *,
        env_runner: Any = None,
        metrics_logger: MetricsLogger | None = None,
        samples: list[Any],
        **kwargs: Any,
    ) -> None:
        """An env runner has collected these episodes (or parts of them)."""


#: The name that programs of RLlib's older versions derive from.
DefaultCallbacks = RLlibCallback

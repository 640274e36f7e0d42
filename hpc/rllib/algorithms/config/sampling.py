"""Settings of environments, of the processes that step them, and of resources."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hpc.rllib.algorithms.config.given import NotProvided, is_search, merged, section

if TYPE_CHECKING:
    from typing_extensions import Self


class SamplingSections:
    """environment, env_runners, resources, python_environment."""

    if TYPE_CHECKING:

        def _take(self, given: dict[str, Any]) -> Self: ...

    def _sampling_defaults(self) -> None:
        self.extra_python_environs_for_driver: dict[str, str] = {}
        self.extra_python_environs_for_worker: dict[str, str] = {}
        self.placement_strategy = "PACK"
        self.num_cpus_for_main_process: float = 1
        self.custom_resources_for_main_process: dict[str, float] = {}
        self._environment_defaults()
        self._env_runner_defaults()

    def _environment_defaults(self) -> None:
        self.env: Any = None
        self.env_config: dict[str, Any] = {}
        self.observation_space: Any = None
        self.action_space: Any = None
        self.clip_rewards: bool | float | None = None
        self.normalize_actions = True
        self.clip_actions = False
        self._is_atari: bool | None = None
        self.disable_env_checking = False
        self.render_env = False
        self.action_mask_key = "action_mask"

    def _env_runner_defaults(self) -> None:
        self.env_runner_cls: type | None = None
        self.num_env_runners = 0
        self.create_local_env_runner = True
        self.num_envs_per_env_runner = 1
        self.gym_env_vectorize_mode: Any = "sync"
        self.num_cpus_per_env_runner: float = 1
        self.num_gpus_per_env_runner: float = 0
        self.custom_resources_per_env_runner: dict[str, float] = {}
        self.validate_env_runners_after_construction = True
        self.episodes_to_numpy = True
        self.max_requests_in_flight_per_env_runner = 1
        self.sample_timeout_s: float | None = 60.0
        self._env_to_module_connector: Callable[..., Any] | None = None
        self.add_default_connectors_to_env_to_module_pipeline = True
        self._module_to_env_connector: Callable[..., Any] | None = None
        self.add_default_connectors_to_module_to_env_pipeline = True
        self.merge_env_runner_states: bool | str = "training_only"
        self.broadcast_env_runner_states = True
        self.use_env_runner_state_server = False
        self.env_runner_state_server_max_concurrency = 16
        self.episode_lookback_horizon = 1
        self.rollout_fragment_length: int | str = 200
        self.batch_mode = "truncate_episodes"
        self.explore = True

    @section
    def python_environment(
        self,
        *,
        extra_python_environs_for_driver: dict[str, str] = NotProvided,
        extra_python_environs_for_worker: dict[str, str] = NotProvided,
    ) -> Self:
        """Set environment variables of the algorithm's process, and of the processes of its actors."""
        return self._take(locals())

    @section
    def resources(
        self,
        *,
        num_cpus_for_main_process: float = NotProvided,
        custom_resources_for_main_process: dict[str, float] = NotProvided,
        num_gpus: float = NotProvided,
        placement_strategy: str = NotProvided,
    ) -> Self:
        """Set the resources of the algorithm's own process, and the strategy of the whole placement group.

        num_gpus: only 0; learners have GPUs by ``learners(num_gpus_per_learner=..)``.
        placement_strategy: PACK, SPREAD, STRICT_PACK or STRICT_SPREAD.
        """
        if num_gpus is not NotProvided and num_gpus:
            raise ValueError("AlgorithmConfig.resources(num_gpus=..): use config.learners(num_gpus_per_learner=..)")
        num_gpus = NotProvided
        return self._take(locals())

    @section
    def environment(
        self,
        env: Any = NotProvided,
        *,
        env_config: dict[str, Any] = NotProvided,
        observation_space: Any = NotProvided,
        action_space: Any = NotProvided,
        render_env: bool = NotProvided,
        clip_rewards: bool | float | None = NotProvided,
        normalize_actions: bool = NotProvided,
        clip_actions: bool = NotProvided,
        disable_env_checking: bool = NotProvided,
        is_atari: bool = NotProvided,
        action_mask_key: str = NotProvided,
    ) -> Self:
        """Set the environment.

        env: a registered name, a path of a class ("module.Class"), a class, or a function of the env_config.
        env_config: the environment's own settings; given twice, the later values are put over the earlier ones.
        observation_space, action_space: of one environment; those of the environment itself, if not given.
        clip_rewards: True: to their sign; a number: to [-number, number]; None: only those of Atari, to their sign.
        normalize_actions: the module acts in [-1, 1]; actions are spread to the bounds of the action space.
        clip_actions: clip actions to those bounds. action_mask_key: the entry of a Dict observation that masks actions.
        """
        if env_config is not NotProvided:
            merged(self.env_config, env_config)
            env_config = NotProvided
        return self._take(locals())

    @section
    def env_runners(
        self,
        *,
        env_runner_cls: type | None = NotProvided,
        num_env_runners: int = NotProvided,
        create_local_env_runner: bool = NotProvided,
        num_envs_per_env_runner: int = NotProvided,
        gym_env_vectorize_mode: Any = NotProvided,
        num_cpus_per_env_runner: float = NotProvided,
        num_gpus_per_env_runner: float = NotProvided,
        custom_resources_per_env_runner: dict[str, float] = NotProvided,
        validate_env_runners_after_construction: bool = NotProvided,
        sample_timeout_s: float | None = NotProvided,
        max_requests_in_flight_per_env_runner: int = NotProvided,
        env_to_module_connector: Callable[..., Any] | None = NotProvided,
        module_to_env_connector: Callable[..., Any] | None = NotProvided,
        add_default_connectors_to_env_to_module_pipeline: bool = NotProvided,
        add_default_connectors_to_module_to_env_pipeline: bool = NotProvided,
        episode_lookback_horizon: int = NotProvided,
        merge_env_runner_states: bool | str = NotProvided,
        broadcast_env_runner_states: bool = NotProvided,
        use_env_runner_state_server: bool = NotProvided,
        env_runner_state_server_max_concurrency: int = NotProvided,
        rollout_fragment_length: int | str = NotProvided,
        batch_mode: str = NotProvided,
        explore: bool = NotProvided,
        episodes_to_numpy: bool = NotProvided,
    ) -> Self:
        """Set how many processes step how many environments, and what goes between them and the module.

        num_env_runners: actors that step environments; 0: the algorithm's own process does it.
        num_envs_per_env_runner: environments that each of them steps at once. gym_env_vectorize_mode: how: "sync",
        "async" (a process for each), or "vector_entry_point" (the environment's own vector class).
        rollout_fragment_length: rows of each environment in one sample; "auto": a train batch from all of them.
        batch_mode: "truncate_episodes": samples end anywhere; "complete_episodes": at ends of episodes.
        explore: draw actions, as opposed to the most likely ones. sample_timeout_s: how long a sample may take.
        env_to_module_connector, module_to_env_connector: functions that make connectors.
        merge_env_runner_states: states of connectors of all runners become one: True, False, or "training_only".
        broadcast_env_runner_states: that one goes to all runners.
        """
        _check_env_runners(num_envs_per_env_runner, rollout_fragment_length, batch_mode)
        return self._take(locals())


def _check_env_runners(envs: Any, length: Any, mode: Any) -> None:
    if isinstance(envs, (int, float)) and envs <= 0:
        raise ValueError(f"`num_envs_per_env_runner` ({envs}) must be larger 0!")
    fits = length == "auto" or (isinstance(length, int) and length > 0)
    if length is not NotProvided and not is_search(length) and not fits:
        raise ValueError(f"`rollout_fragment_length` must be int >0 or 'auto', not {length!r}!")
    if mode is not NotProvided and not is_search(mode) and mode not in ("truncate_episodes", "complete_episodes"):
        raise ValueError(f"`batch_mode` ({mode}) must be one of [truncate_episodes|complete_episodes]!")

"""What all env runners have: configuration, seeds, metrics, weights, callbacks."""

from __future__ import annotations

import abc
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import hpc
from hpc.rllib.callbacks.utils import callbacks_of, is_wanted, make_callback
from hpc.rllib.core import (
    COMPONENT_ENV_TO_MODULE_CONNECTOR,
    COMPONENT_MODULE_TO_ENV_CONNECTOR,
    COMPONENT_RL_MODULE,
)
from hpc.rllib.env.clock import Clock
from hpc.rllib.env.env_context import EnvContext
from hpc.rllib.env.env_errors import StepFailedRecreateEnvError
from hpc.rllib.env.fragment import Sample
from hpc.rllib.utils.checkpoints import Checkpointable
from hpc.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME, WEIGHTS_SEQ_NO
from hpc.rllib.utils.metrics.metrics_logger import MetricsLogger
from hpc.rllib.utils.seeding import runner_seeds

logger = logging.getLogger("hpc.rllib")

#: Runners of evaluation have seeds of their own.
EVALUATION_OFFSET = 1_000_000
#: After so many rows without a step environments are taken for broken: each is reset, or made anew, in one row.
IDLE_ROWS = 100


@dataclass(frozen=True)
class Goal:
    """When a sample ends: after so many rows, finished episodes, or steps (RLlib's num_timesteps)."""

    rows: int | None = None
    episodes: int | None = None
    steps: int | None = None

    def reached(self, rows: int, episodes: int, steps: int) -> bool:
        """Whether it is reached."""
        pairs = ((self.rows, rows), (self.episodes, episodes), (self.steps, steps))
        return any(wanted is not None and made >= wanted for wanted, made in pairs)


class EnvRunner(Checkpointable, abc.ABC):
    """Step environments with a module, and return what happened.

    Args:
        config: The algorithm's configuration.
        worker_index: 0 is the local runner, actors have 1 and more; None for one that is in no group.
        num_workers: How many actors there are.
        restarts: How often this runner was started anew; its seeds depend on it.
    """

    def __init__(
        self,
        *,
        config: Any,
        worker_index: int | None = None,
        num_workers: int | None = None,
        restarts: int = 0,
        **kwargs: Any,
    ) -> None:
        self.config = config.copy(copy_frozen=False)
        self.worker_index = worker_index or 0
        self.num_workers = config.num_env_runners if num_workers is None else num_workers
        self.restarts = restarts
        #: A local runner beside actors needs no environment.
        on_local = getattr(config, "create_env_on_local_worker", False)
        self._has_env = worker_index is None or worker_index > 0 or self.num_workers == 0 or on_local
        self.spaces: dict[str, Any] = dict(kwargs.get("spaces") or {})
        self.tune_trial_id = kwargs.get("tune_trial_id")
        self.env: Any = None
        self._module: Any = None
        #: Weights that the module itself has not taken yet: acting needs them in the actor only.
        self._new_weights: dict[str, Any] = {}
        self.metrics = MetricsLogger()
        self.num_env_steps_sampled_lifetime = 0
        #: Called before each row, if it is set: weights may come in the middle of a fragment.
        self.between_rows: Callable[[], None] | None = None
        self._weights_seq_no = 0
        offset = EVALUATION_OFFSET if getattr(self.config, "in_evaluation", False) else 0
        self._seeds = runner_seeds(self.config.seed, self.worker_index + offset, restarts)
        self.rng: np.random.Generator = self._seeds.actions
        self._callbacks = callbacks_of(self.config)
        self._faults: dict[str, int] = {}
        self._clock = Clock()
        self._idle_rows = 0
        self._env_to_module: Any = None
        self._module_to_env: Any = None
        if self.worker_index > 0:
            self._own_process()

    def _own_process(self) -> None:
        """Settings of torch that only a process of its own may have."""
        try:
            import torch
        except ImportError:
            return
        torch.set_num_threads(1)
        if self._seeds.torch is not None:
            torch.manual_seed(self._seeds.torch)

    # -------------------------------------------------------------- to be written

    @abc.abstractmethod
    def sample(
        self,
        *,
        num_timesteps: int | None = None,
        num_episodes: int | None = None,
        explore: bool | None = None,
        random_actions: bool = False,
        force_reset: bool = False,
    ) -> Any:
        """Step the environments, and return episodes."""

    @abc.abstractmethod
    def sample_fragment(
        self,
        rows: int | None = None,
        episodes: int | None = None,
        *,
        steps: int | None = None,
        explore: bool | None = None,
        random_actions: bool = False,
        force_reset: bool = False,
    ) -> Sample:
        """Step the environments for rows, until so many steps are made, or episodes done. Returns arrays."""

    def get_metrics(self) -> dict[str, Any]:
        """What was logged since the last call."""
        return self.metrics.reduce()

    def sample_get_state_and_metrics(self) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """A sample's episodes as an object reference, the state without the module, and what was logged."""
        episodes = hpc.put(self.sample())
        state = self.get_state(not_components=COMPONENT_RL_MODULE)
        # The generator is the runner's own.
        state.pop("rng", None)
        return episodes, state, self.get_metrics()

    @abc.abstractmethod
    def get_spaces(self) -> dict[str, tuple[Any, Any]]:
        """The spaces of observations and actions by module, and of the environments."""

    @abc.abstractmethod
    def assert_healthy(self) -> None:
        """Raise AssertionError where it cannot sample."""

    @abc.abstractmethod
    def make_env(self) -> None:
        """Make the environments anew, by what the configuration says now."""

    @abc.abstractmethod
    def make_module(self) -> None:
        """Make the module anew, by what the configuration says now."""

    @abc.abstractmethod
    def _set_module_weights(self, weights: dict[str, Any]) -> None:
        """Give modules their weights, by module."""

    # -------------------------------------------------------------- weights and state

    @property
    def module(self) -> Any:
        """The module, or the modules, with the weights that act now."""
        if self._new_weights and self._module is not None:
            weights, self._new_weights = self._new_weights, {}
            self._load_weights(weights)
        return self._module

    @module.setter
    def module(self, value: Any) -> None:
        self._module = value
        self._new_weights = {}

    @abc.abstractmethod
    def _load_weights(self, weights: dict[str, Any]) -> None:
        """Load weights into modules, by module."""

    def set_weights(self, version: int, weights: dict[str, Any]) -> None:
        """Act with these weights from the next row on."""
        self._set_module_weights(weights)
        self._weights_seq_no = version

    def get_state(self, components: Any = None, *, not_components: Any = None, **kwargs: Any) -> dict[str, Any]:
        """Counters, module, connectors; the generator of actions only where all components are asked for."""
        state: dict[str, Any] = {NUM_ENV_STEPS_SAMPLED_LIFETIME: self.num_env_steps_sampled_lifetime}
        if components is None:
            state["rng"] = self.rng.bit_generator.state
        if self._module is not None and self._check_component(COMPONENT_RL_MODULE, components, not_components):
            state[COMPONENT_RL_MODULE] = self._module_state(
                self._get_subcomponents(COMPONENT_RL_MODULE, components),
                self._get_subcomponents(COMPONENT_RL_MODULE, not_components),
            )
            state[WEIGHTS_SEQ_NO] = self._weights_seq_no
        for name, pipeline in self._pipelines():
            if self._check_component(name, components, not_components):
                state[name] = pipeline.get_state()
        return state

    def _module_state(self, components: Any, not_components: Any) -> dict[str, Any]:
        state: dict[str, Any] = self.module.get_state(components, not_components=not_components)
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Take what `get_state` gave, whole or in part. With a generator the environments are reset before the next
        row.

        Weights of a version that is not newer than the runner's are left, as version 0 is not.
        """
        for name, pipeline in self._pipelines():
            if name in state:
                pipeline.set_state(state[name])
        if COMPONENT_RL_MODULE in state:
            version = state.get(WEIGHTS_SEQ_NO, 0)
            if version == 0 or self._weights_seq_no < version:
                self._set_module_weights(state[COMPONENT_RL_MODULE])
            if version > 0:
                self._weights_seq_no = version
        if NUM_ENV_STEPS_SAMPLED_LIFETIME in state:
            self.num_env_steps_sampled_lifetime = state[NUM_ENV_STEPS_SAMPLED_LIFETIME]
        if "rng" in state:
            self.rng.bit_generator.state = state["rng"]
            self._start_over()

    def _start_over(self) -> None:
        """Reset the environments before the next row, with seeds of the generator where there is a seed at all."""

    def _pipelines(self) -> list[tuple[str, Any]]:
        pairs = [
            (COMPONENT_ENV_TO_MODULE_CONNECTOR, self._env_to_module),
            (COMPONENT_MODULE_TO_ENV_CONNECTOR, self._module_to_env),
        ]
        return [(name, pipeline) for name, pipeline in pairs if pipeline is not None]

    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What makes an equal runner."""
        return (), {"config": self.config, "worker_index": self.worker_index, "num_workers": self.num_workers}

    def get_checkpointable_components(self) -> list[tuple[str, Any]]:
        """The module and the connectors."""
        parts = [] if self._module is None else [(COMPONENT_RL_MODULE, self.module)]
        return [*parts, *self._pipelines()]

    # -------------------------------------------------------------- parts

    def _goal(self, rows: int | None, episodes: int | None, steps: int | None, width: int) -> Goal:
        """What a call samples: what it asks for, else what the configuration says.

        Raises:
            ValueError: the runner has no environment, or the call asks for several things.
        """
        if self.env is None:
            raise ValueError(f"{self} doesn't have an env! Can't call `sample()` on it.")
        asked = {"rows": rows, "episodes": episodes, "steps": steps}
        if len(given := [name for name, value in asked.items() if value is not None]) > 1:
            raise ValueError(f"give one of {given}, not several")
        if given:
            return Goal(rows, episodes, steps)
        if self.config.batch_mode == "complete_episodes":
            return Goal(episodes=width)
        return Goal(steps=self.config.get_rollout_fragment_length(self.worker_index) * width)

    def ping(self) -> str:
        """Answer, to show that the runner lives."""
        return "pong"

    def stop(self) -> None:
        """Close the environments."""
        if self.env is not None:
            self.env.close()
            self.env = None

    def _context(self) -> EnvContext:
        given = self.config.env_config
        if isinstance(given, EnvContext):
            return given
        return EnvContext(
            given or {}, self.worker_index, num_workers=self.num_workers, recreated_worker=self.restarts > 0
        )

    def _global_steps(self, own: int) -> int:
        """Steps of all runners, as far as this one knows: exploration depends on them."""
        return self.num_env_steps_sampled_lifetime + own * max(int(self.config.num_env_runners), 1)

    def _wanted(self, hook: str) -> bool:
        return is_wanted(hook, self.config)

    def _call(self, hook: str, **kwargs: Any) -> None:
        make_callback(hook, self._callbacks, getattr(self.config, f"callbacks_{hook}"), kwargs=kwargs)

    def _env_failed(self, at: int | None, error: Exception) -> None:
        """Count the failure of an environment that is made anew."""
        self._count_fault("num_env_steps_failed_lifetime")
        if not isinstance(error, StepFailedRecreateEnvError):
            where = "the environments" if at is None else f"environment {at}"
            logger.warning(
                "runner %d: %s failed, and is made anew: %s: %s",
                self.worker_index,
                where,
                type(error).__name__,
                error,
                exc_info=error,
            )

    def _made_steps(self, steps: int) -> int:
        """The steps of a row. Raise RuntimeError where environments fail again and again, and none makes any."""
        self._idle_rows = 0 if steps else self._idle_rows + 1
        if self._idle_rows >= IDLE_ROWS:
            self._idle_rows = 0
            raise RuntimeError(
                f"runner {self.worker_index}: no environment made a step in {IDLE_ROWS} rows, though they were made "
                "anew: see the warnings above for their errors"
            )
        return steps

    def _count_fault(self, name: str) -> None:
        self._faults[name] = self._faults.get(name, 0) + 1

    def _take_faults(self) -> dict[str, int]:
        faults, self._faults = self._faults, {}
        return faults

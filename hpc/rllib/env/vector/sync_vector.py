"""Several gymnasium environments in this process, stepped one after another into arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate


class SyncVector(gym.vector.VectorEnv):
    """As gymnasium's SyncVectorEnv in the mode NEXT_STEP, with half of its cost by step, and one that fails is made
    anew.

    ``infos_by_env`` has the infos of the last call, one dict for each environment. ``failed`` says which of them
    failed in the last step and were made anew: their observations are those of a reset, and no step happened.
    """

    def __init__(
        self,
        makers: Sequence[Callable[[], gym.Env]],
        *,
        restart_failed: bool = False,
        on_failure: Callable[[int, Exception], None] | None = None,
    ) -> None:
        self._makers = list(makers)
        self._restart_failed = restart_failed
        self._on_failure = on_failure
        self.envs = [make() for make in self._makers]
        first = self.envs[0]
        self.num_envs = len(self.envs)
        self.metadata = {**(first.metadata or {}), "autoreset_mode": AutoresetMode.NEXT_STEP}
        self.render_mode = first.render_mode
        self.spec = first.spec
        self.single_observation_space = first.observation_space
        self.single_action_space = first.action_space
        for at, env in enumerate(self.envs):
            if env.action_space != first.action_space or env.observation_space != first.observation_space:
                raise ValueError(
                    f"environment {at} has other spaces than the first one: {env.observation_space}, "
                    f"{env.action_space} and "
                    f"{first.observation_space}, {first.action_space}"
                )
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._simple = isinstance(self.single_observation_space, (gym.spaces.Box, gym.spaces.Discrete))
        self._arrays: Any = create_empty_array(self.single_observation_space, self.num_envs, fn=np.zeros)
        self._rewards = np.zeros(self.num_envs, np.float64)
        self._terminations = np.zeros(self.num_envs, bool)
        self._truncations = np.zeros(self.num_envs, bool)
        self._done = np.zeros(self.num_envs, bool)
        self.failed = np.zeros(self.num_envs, bool)
        self.infos_by_env: list[dict[str, Any]] = [{} for _ in self.envs]

    @property
    def unwrapped(self) -> SyncVector:
        """Itself: it wraps no vector environment."""
        return self

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset all environments; an int is the seed of the first one, and the others have the following ones."""
        if seed is None or isinstance(seed, int):
            seeds = [None if seed is None else seed + at for at in range(self.num_envs)]
        else:
            seeds = list(seed)
        observations = [self._reset_one(at, seeds[at], options) for at in range(self.num_envs)]
        self._done[:] = False
        self.failed[:] = False
        return self._joined(observations), {}

    def _reset_one(self, at: int, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        try:
            observation, info = self.envs[at].reset(seed=seed, options=options)
        except Exception as error:
            self._make_anew(at, error)
            observation, info = self.envs[at].reset(seed=seed, options=options)
        self.infos_by_env[at] = info
        return observation

    def _make_anew(self, at: int, error: Exception) -> None:
        """Replace an environment that failed; raise its error where that was not asked for."""
        if not self._restart_failed:
            raise error
        if self._on_failure is not None:
            self._on_failure(at, error)
        try:
            self.envs[at].close()
        except Exception:
            pass
        self.envs[at] = self._makers[at]()

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step all environments; those that were done are reset instead."""
        each = actions if isinstance(actions, list) else self._each(actions)
        observations: list[Any] = []
        self.failed[:] = False
        for at, action in enumerate(each):
            if self._done[at]:
                observations.append(self._reset_one(at))
                self._ended(at, 0.0, False, False)
                continue
            try:
                observation, reward, terminated, truncated, info = self.envs[at].step(action)
            except Exception as error:
                self._make_anew(at, error)
                observations.append(self._reset_one(at))
                self._ended(at, 0.0, False, False)
                self.failed[at] = True
                continue
            observations.append(observation)
            self.infos_by_env[at] = info
            self._ended(at, reward, terminated, truncated)
        np.logical_or(self._terminations, self._truncations, out=self._done)
        return self._joined(observations), self._rewards, self._terminations, self._truncations, {}

    def _ended(self, at: int, reward: Any, terminated: bool, truncated: bool) -> None:
        self._rewards[at], self._terminations[at], self._truncations[at] = reward, terminated, truncated

    def _each(self, actions: Any) -> Any:
        if isinstance(self.single_action_space, gym.spaces.Discrete):
            return actions.tolist()
        return actions if isinstance(actions, np.ndarray) else iterate(self.action_space, actions)

    def _joined(self, observations: list[Any]) -> Any:
        if self._simple:
            for at, observation in enumerate(observations):
                self._arrays[at] = observation
            return self._arrays
        return concatenate(self.single_observation_space, observations, deepcopy(self._arrays))

    def render(self) -> tuple[Any, ...]:
        """What each environment renders."""
        return tuple(env.render() for env in self.envs)

    def close_extras(self, **kwargs: Any) -> None:
        """Close all environments."""
        for env in self.envs:
            env.close()

"""What Atari games are usually wrapped in: fewer and smaller images, random starts, an episode for each life."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np

LONGEST_STEPS = 108_000
NOOP, FIRE = 0, 1


def is_atari(env: gym.Env | str) -> bool:
    """Whether it is a game of the Arcade Learning Environment, or the name of one."""
    if isinstance(env, str):
        return env.startswith(("ALE/", "ale_py:"))
    return "AtariEnv<ALE" in str(env)


def get_wrapper_by_cls(env: gym.Env, cls: type) -> gym.Env | None:
    """The wrapper of this class around an environment; None if there is none."""
    current = env
    while True:
        if isinstance(current, cls):
            return current
        if not isinstance(current, gym.Wrapper):
            return None
        current = current.env


class ClipRewardEnv(gym.RewardWrapper):
    """Rewards are their sign: -1, 0 or 1."""

    def reward(self, reward: Any) -> float:
        return float(np.sign(reward))


class NoopResetEnv(gym.Wrapper):
    """After a reset up to ``noop_max`` steps do nothing, so that episodes begin differently."""

    def __init__(self, env: gym.Env, noop_max: int = 30) -> None:
        super().__init__(env)
        self.noop_max = noop_max
        #: How many steps they are, where that is to be fixed.
        self.override_num_noops: int | None = None

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(**kwargs)
        drawn = int(self.unwrapped.np_random.integers(1, self.noop_max + 1))
        for _ in range(drawn if self.override_num_noops is None else self.override_num_noops):
            observation, _, terminated, truncated, info = self.env.step(NOOP)
            if terminated or truncated:
                observation, info = self.env.reset()
        return observation, info


class FireResetEnv(gym.Wrapper):
    """After a reset it presses fire, where a game stands still until then."""

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        self.env.reset(**kwargs)
        observation, _, terminated, truncated, info = self.env.step(FIRE)
        return self.env.reset(**kwargs) if terminated or truncated else (observation, info)

    def step(self, action: Any) -> Any:
        return self.env.step(action)


class EpisodicLifeEnv(gym.Wrapper):
    """The loss of a life ends an episode; the game itself begins again only when all are lost."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.lives = 0
        self.was_real_terminated = True

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.was_real_terminated = terminated or truncated
        lives = self._left()
        is_lost, self.lives = 0 < lives < self.lives, lives
        return observation, reward, terminated or is_lost, truncated, info

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        if self.was_real_terminated:
            observation, info = self.env.reset(**kwargs)
        else:
            observation, _, terminated, truncated, info = self.env.step(NOOP)
            if terminated or truncated:
                observation, info = self.env.reset(**kwargs)
        self.lives = self._left()
        return observation, info

    def _left(self) -> int:
        game: Any = self.unwrapped
        return int(game.ale.lives())


class MaxAndSkipEnv(gym.Wrapper):
    """Each action is done ``skip`` times; the observation is the brighter one of the last two, the reward their sum."""

    def __init__(self, env: gym.Env, skip: int = 4) -> None:
        super().__init__(env)
        self._skip = skip

    def step(self, action: Any) -> Any:
        total = 0.0
        seen: deque[np.ndarray] = deque(maxlen=2)
        for _ in range(self._skip):
            observation, reward, terminated, truncated, info = self.env.step(action)
            seen.append(observation)
            total += float(reward)
            if terminated or truncated:
                break
        return np.maximum(seen[0], seen[-1]), total, terminated, truncated, info

    def reset(self, **kwargs: Any) -> Any:
        return self.env.reset(**kwargs)


class GrayScaleAndResize(gym.ObservationWrapper):
    """Images of ``dim`` times ``dim``, and grey, as (dim, dim, 1)."""

    def __init__(self, env: gym.Env, dim: int, grayscale: bool = True) -> None:
        super().__init__(env)
        self.width = self.height = dim
        self.grayscale = grayscale
        self.observation_space = gym.spaces.Box(0, 255, (dim, dim, 1 if grayscale else 3), np.uint8)

    def observation(self, frame: np.ndarray) -> np.ndarray:
        try:
            import cv2
        except ImportError:
            raise ImportError("images are made smaller by OpenCV: pip install opencv-python-headless") from None
        small = cv2.resize(frame, (self.width, self.height), interpolation=cv2.INTER_AREA)
        if not self.grayscale:
            return small
        return (cv2.cvtColor(small, cv2.COLOR_RGB2GRAY) if small.ndim == 3 else small)[:, :, None]


WarpFrame = GrayScaleAndResize


class NormalizedImageEnv(gym.ObservationWrapper):
    """Images as numbers from -1 to 1."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.observation_space = gym.spaces.Box(-1.0, 1.0, env.observation_space.shape, np.float32)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        return observation.astype(np.float32) / 128.0 - 1.0


class FrameStack(gym.Wrapper):
    """The last ``k`` images behind each other, as (height, width, k times channels)."""

    def __init__(self, env: gym.Env, k: int) -> None:
        super().__init__(env)
        self.k = k
        self.frames: deque[np.ndarray] = deque(maxlen=k)
        space: Any = env.observation_space
        low, high = (np.repeat(bound, k, axis=2) for bound in (space.low, space.high))
        self.observation_space = gym.spaces.Box(low, high, dtype=space.dtype)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        self.frames.extend([observation] * self.k)
        return np.concatenate(self.frames, axis=2), info

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.frames.append(observation)
        return np.concatenate(self.frames, axis=2), reward, terminated, truncated, info


class FrameStackTrajectoryView(gym.ObservationWrapper):
    """One grey image without its last axis, for connectors that stack frames."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        shape = env.observation_space.shape
        if shape is None or shape[-1] != 1:
            raise ValueError(f"images have one channel, as (height, width, 1), not {shape}")
        self.observation_space = gym.spaces.Box(0, 255, shape[:-1], np.uint8)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        return np.squeeze(observation, axis=-1)


class MonitorEnv(gym.Wrapper):
    """Remembers returns and lengths of episodes, before other wrappers change them."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self._episode_rewards: list[float] = []
        self._episode_lengths: list[int] = []
        self._now: list[float] | None = None
        self._told = 0
        self._total_steps = 0

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(**kwargs)
        if self._now is not None:
            self._episode_rewards.append(sum(self._now))
            self._episode_lengths.append(len(self._now))
        self._now = []
        return observation, info

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = self.env.step(action)
        if self._now is not None:
            self._now.append(float(reward))
        self._total_steps += 1
        return observation, reward, terminated, truncated, info

    def get_episode_rewards(self) -> list[float]:
        """The returns of episodes that are over."""
        return self._episode_rewards

    def get_episode_lengths(self) -> list[int]:
        """Their numbers of steps."""
        return self._episode_lengths

    def get_total_steps(self) -> int:
        """All steps, those of the episode that goes on too."""
        return self._total_steps

    def next_episode_results(self) -> Iterator[tuple[float, int]]:
        """Return and length of each episode that was not told yet."""
        fresh = list(zip(self._episode_rewards, self._episode_lengths))[self._told :]
        self._told = len(self._episode_rewards)
        yield from fresh


def wrap_atari_for_new_api_stack(
    env: gym.Env, dim: int = 64, frameskip: int = 4, framestack: int | None = None, grayscale: bool = True
) -> gym.Env:
    """Images of ``dim`` squared from -1 to 1, one of ``frameskip``, with an episode for each life.

    Make the game with ``frameskip=1``. ``framestack``: so many images together (or by the connector FrameStacking).
    """
    wrapped: gym.Env = gym.wrappers.TimeLimit(env, max_episode_steps=LONGEST_STEPS)
    wrapped = NormalizedImageEnv(GrayScaleAndResize(wrapped, dim=dim, grayscale=grayscale))
    if frameskip > 1:
        wrapped = MaxAndSkipEnv(wrapped, skip=frameskip)
    wrapped = EpisodicLifeEnv(NoopResetEnv(wrapped, noop_max=30))
    if _has_fire(wrapped):
        wrapped = FireResetEnv(wrapped)
    return FrameStack(wrapped, k=framestack) if framestack else wrapped


def wrap_deepmind(env: gym.Env, dim: int = 84, framestack: bool = True, noframeskip: bool = False) -> gym.Env:
    """Grey images of ``dim`` squared as bytes, four of them together; ``noframeskip``: the game itself skips none."""
    wrapped: gym.Env = NoopResetEnv(MonitorEnv(env), noop_max=30)
    if noframeskip:
        wrapped = MaxAndSkipEnv(wrapped, skip=4)
    wrapped = EpisodicLifeEnv(wrapped)
    if _has_fire(wrapped):
        wrapped = FireResetEnv(wrapped)
    wrapped = GrayScaleAndResize(wrapped, dim)
    return FrameStack(wrapped, 4) if framestack else wrapped


def _has_fire(env: gym.Env) -> bool:
    game: Any = env.unwrapped
    return "FIRE" in game.get_action_meanings()

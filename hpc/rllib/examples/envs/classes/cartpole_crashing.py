"""CartPole that raises, or takes its time, now and then: for programs that have to live with such environments."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from gymnasium.envs.classic_control import CartPoleEnv

from hpc.rllib.env.env_errors import EnvError
from hpc.rllib.env.multi_agent_env import make_multi_agent


class Chance:
    """When something happens: with a probability at each step or reset, or after a number of steps of an episode."""

    def __init__(self, config: Any, verb: str, p_step: float) -> None:
        self.p_step: float = config.get(f"p_{verb}", p_step)
        self.p_reset: float = config.get(f"p_{verb}_reset", 0.0)
        self.after: int | tuple[int, int] | None = config.get(f"{verb}_after_n_steps")
        only = config.get(f"{verb}_on_worker_indices")
        if only and config.worker_index not in only:
            self.p_step, self.p_reset, self.after = 0.0, 0.0, None
        self._at: int | None = None

    def begin(self, rng: np.random.Generator) -> None:
        """A new episode: the number of steps is drawn."""
        self._at = int(rng.integers(*self.after)) if isinstance(self.after, tuple) else self.after

    def strikes(self, rng: np.random.Generator, t: int) -> bool:
        """Whether it happens at step t of the episode (0: at its reset)."""
        return bool(rng.random() < (self.p_step if t else self.p_reset)) or (t > 0 and t == self._at)


class CartPoleCrashing(CartPoleEnv):
    """``config``: `p_crash` (0.005), `p_crash_reset`, `crash_after_n_steps` (a number, or a range to draw from),
    `crash_on_worker_indices`; the same for `stall`, with `stall_time_sec`; `init_time_s`. Ranges are (low, high)."""

    def __init__(self, config: Any = None) -> None:
        super().__init__()
        self.config = {} if config is None else config
        self._crash = Chance(self.config, "crash", 0.005)
        self._stall = Chance(self.config, "stall", 0.0)
        self._rng = np.random.default_rng()  # not the seeded one: copies do not crash at the same time
        self.timesteps = 0
        time.sleep(self._seconds("init_time_s"))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        self.timesteps = 0
        for one in (self._crash, self._stall):
            one.begin(self._rng)
        self._happens("reset")
        return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> Any:
        self.timesteps += 1
        self._happens("step")
        return super().step(action)  # type: ignore[no-untyped-call]

    def _happens(self, where: str) -> None:
        if self._crash.strikes(self._rng, self.timesteps):
            place = (getattr(self.config, "worker_index", 0), getattr(self.config, "vector_index", 0))
            raise EnvError(f"A crash on purpose in {where}() of environment {place[1]} of runner {place[0]}.")
        if self._stall.strikes(self._rng, self.timesteps):
            time.sleep(self._seconds("stall_time_sec"))

    def _seconds(self, key: str) -> float:
        given = self.config.get(key) or 0.0
        return float(self._rng.uniform(*given)) if isinstance(given, tuple) else float(given)


MultiAgentCartPoleCrashing = make_multi_agent(lambda config: CartPoleCrashing(config))

"""How well an algorithm learns within a budget of steps."""

from __future__ import annotations

import numpy as np


def best_of(config, steps):
    """The best mean return of an iteration until so many steps were sampled, by a runner of this process."""
    algo = config.env_runners(num_env_runners=0).debugging(seed=3).build_algo()
    best = -np.inf
    try:
        while True:
            result = algo.train()
            best = max(best, result["env_runners"].get("episode_return_mean", -np.inf))
            if result["num_env_steps_sampled_lifetime"] >= steps:
                return best
    finally:
        algo.stop()

"""Actions drawn evenly from a space, as a module would give them: between -1 and 1, and only allowed ones."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from hpc.rllib.utils.spaces.space_utils import map_space
from hpc.rllib.utils.trees import map_tree, stack


def random_actions(env: Any, mask: np.ndarray | None, rng: np.random.Generator, normalised: bool) -> Any:
    """One action for each environment of a vector; ``mask`` [N, k] says which discrete ones are allowed."""
    space = env.single_action_space
    if mask is not None:
        return allowed(space, mask, rng)
    if env.action_space is space:
        # EnvPool has the space of one environment.
        each = stack([map_tree(np.asarray, space.sample()) for _ in range(env.num_envs)])
    else:
        each = env.action_space.sample()
    drawn = map_space(lambda leaf, _: np.asarray(leaf), each, space)
    return squashed(drawn, space, normalised)


def allowed(space: Any, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Discrete actions, each drawn evenly from those that are allowed."""
    sizes = [int(space.n)] if isinstance(space, gym.spaces.Discrete) else [int(n) for n in space.nvec]
    parts, at = [], 0
    for size in sizes:
        part = mask[:, at : at + size]
        # The largest of random numbers over the allowed actions is uniform over them.
        parts.append(np.where(part, rng.random(part.shape), -1.0).argmax(axis=1))
        at += size
    return parts[0] if isinstance(space, gym.spaces.Discrete) else np.stack(parts, axis=1)


def squashed(actions: Any, space: Any, normalised: bool) -> Any:
    """Actions of an environment as the module would have given them."""

    def squash(leaf: Any, part: Any) -> Any:
        if isinstance(part, gym.spaces.Discrete):
            return leaf - int(part.start)
        if isinstance(part, gym.spaces.MultiDiscrete):
            return leaf - np.asarray(part.start)
        if not normalised or not isinstance(part, gym.spaces.Box) or not part.is_bounded("both"):
            return leaf
        if np.issubdtype(part.dtype, np.integer):
            return leaf - part.low
        return ((leaf - part.low) * 2.0 / (part.high - part.low) - 1.0).astype(np.float32)

    return map_space(squash, actions, space)

"""Masks of invalid actions: where they stand in observations, and what they do to logits and Q-values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

if TYPE_CHECKING:
    import torch

#: The column of masks: True, or 1, for actions that are allowed.
ACTION_MASK = "action_mask"
NEXT_ACTION_MASK = "next_action_mask"
#: The logit of an action that is not allowed. It is finite, so that 0 times it is 0 and no gradient is NaN. It is far
#: from the least number, so that it stays finite times a temperature, and where a module masks once more.
MASKED_LOGIT = -1e30


def split_mask(space: Any, key: str = ACTION_MASK) -> tuple[Any, bool]:
    """An observation space without its mask, and whether it had one.

    A Dict with the mask and one other part becomes that part; with several, a Dict of these.
    """
    if not isinstance(space, gym.spaces.Dict) or key not in space.spaces:
        return space, False
    others = {name: part for name, part in space.spaces.items() if name != key}
    if not others:
        raise ValueError(f"the observation space has nothing but {key!r}: add the observations beside the mask")
    return (next(iter(others.values())) if len(others) == 1 else gym.spaces.Dict(others)), True


def split_mask_obs(obs: dict[str, Any], key: str = ACTION_MASK) -> tuple[Any, Any]:
    """A masked observation as (observation, mask), nested as `split_mask` nests the space."""
    others = {name: part for name, part in obs.items() if name != key}
    return (next(iter(others.values())) if len(others) == 1 else others), obs[key]


def mask_array(logits: np.ndarray, mask: Any) -> np.ndarray:
    """Logits of numpy with those of invalid actions out of reach; mask None: the logits."""
    return logits if mask is None else np.where(flat_mask(mask), logits, np.float32(MASKED_LOGIT))


def mask_logits(logits: torch.Tensor, mask: Any) -> torch.Tensor:
    """Logits of torch with those of invalid actions out of reach; mask None: the logits."""
    return logits if mask is None else logits.masked_fill(~mask.bool(), MASKED_LOGIT)


def flat_mask(mask: Any) -> np.ndarray:
    """A mask as booleans [N, k]; one of several discrete actions may be a tuple of masks, one for each."""
    if isinstance(mask, tuple):
        mask = np.concatenate(mask, axis=-1)
    return np.asarray(mask).astype(bool, copy=False)

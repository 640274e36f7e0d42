"""Returns and advantages over time-major arrays [rows, columns], with masks and bootstrap values at truncations."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

#: The smallest standard deviation that advantages are divided by.
MIN_STD = 1e-4


class Advantages(NamedTuple):
    """What GAE gives: both [T, N], zero at masked rows."""

    advantages: np.ndarray
    value_targets: np.ndarray


def gae(
    rewards: np.ndarray,
    values: np.ndarray,
    terminateds: np.ndarray,
    truncateds: np.ndarray,
    gamma: float,
    lambda_: float,
    mask: np.ndarray | None = None,
) -> Advantages:
    """Generalized advantage estimates (Schulman et al. 2016) of all columns at once.

    `rewards`, `terminateds`, `truncateds` and `mask` are [T, N]. `values` is [T + 1, N]: row t + 1 is the value of the
    observation after step t, the final one where an episode ends. A terminated step has no value after it. A
    truncated one has, but nothing flows back over it. Rows where `mask` is False count for nothing.
    """
    if len(values) != len(rewards) + 1:
        raise ValueError(f"values need one row more than rewards: {len(values)} rows for {len(rewards)}")
    alive = 1.0 - terminateds.astype(np.float32)
    deltas = rewards + gamma * alive * values[1:] - values[:-1]
    decay = (gamma * lambda_) * alive * (1.0 - truncateds.astype(np.float32))
    if mask is not None:
        deltas = np.where(mask, deltas, 0.0)
        decay = decay * mask
    advantages = np.empty(rewards.shape, np.float32)
    running = np.zeros(rewards.shape[1:], np.float32)
    for t in range(len(rewards) - 1, -1, -1):
        running = deltas[t] + decay[t] * running
        advantages[t] = running
    targets = (advantages + values[:-1]).astype(np.float32)
    if mask is not None:
        targets *= mask
    return Advantages(advantages, targets)


def discounted_returns(
    rewards: np.ndarray, ends: np.ndarray, gamma: float, bootstrap: np.ndarray | None = None
) -> np.ndarray:
    """Sums of discounted rewards up to the next end, [T, N]; `bootstrap` [N] is the value after the last row."""
    returns = np.empty(rewards.shape, np.float32)
    running = np.zeros(rewards.shape[1:], np.float32) if bootstrap is None else bootstrap.astype(np.float32)
    keep = gamma * (1.0 - ends.astype(np.float32))
    for t in range(len(rewards) - 1, -1, -1):
        running = rewards[t] + keep[t] * running
        returns[t] = running
    return returns


def n_step_returns(
    rewards: np.ndarray, ends: np.ndarray, starts: np.ndarray, steps: np.ndarray, gamma: float
) -> tuple[np.ndarray, np.ndarray]:
    """Discounted sums of the next `steps[i]` rewards from `starts[i]`, cut at the end of the episode.

    `rewards` and `ends` are flat [M]; an end is the last step of an episode, or of what is known of it. The answer is
    (sums [B], steps that were taken [B]): a window that meets an end is shorter than was asked for.
    """
    last = len(rewards) - 1
    sums = rewards[starts].astype(np.float32)
    taken = np.ones(len(starts), np.int64)
    going = ~ends[starts] & (starts < last)
    discount = np.float32(1.0)
    for step in range(1, int(steps.max(initial=1))):
        discount = np.float32(discount * gamma)
        going = going & (step < steps)
        if not going.any():
            break
        at = np.minimum(starts + step, last)
        sums += np.where(going, discount * rewards[at], 0.0)
        taken += going
        going = going & ~ends[at] & (at < last)
    return sums, taken


def standardize(advantages: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Advantages with mean 0 and standard deviation 1 over the rows of the mask; zero elsewhere."""
    chosen = advantages if mask is None else advantages[mask]
    if not chosen.size:
        return advantages
    out = (advantages - chosen.mean()) / max(MIN_STD, float(chosen.std()))
    return (out if mask is None else np.where(mask, out, 0.0)).astype(np.float32)


def explained_variance(targets: np.ndarray, predictions: np.ndarray) -> float:
    """The share of the variance of the targets that the predictions explain; at least -1."""
    variance = float(np.var(targets))
    if variance <= 0.0:
        return -1.0
    return max(-1.0, 1.0 - float(np.var(targets - predictions)) / variance)

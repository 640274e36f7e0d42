"""Losses of imitation: behaviour cloning, and MARWIL (Wang et al. 2018), which weighs actions by their advantages."""

from __future__ import annotations

from typing import NamedTuple

import torch

from hpc.rllib.math.losses.common import masked_mean


class MARWILLoss(NamedTuple):
    """`norm` is the new running mean of squared advantages."""

    total: torch.Tensor
    policy: torch.Tensor
    vf: torch.Tensor
    norm: torch.Tensor


def bc_loss(logp: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """The mean negative log likelihood of the recorded actions."""
    return -masked_mean(logp, mask)


def marwil_loss(
    *,
    logp: torch.Tensor,
    values: torch.Tensor,
    value_targets: torch.Tensor,
    norm: torch.Tensor,
    beta: float,
    norm_rate: float = 1e-8,
    vf_coeff: float = 1.0,
    bonus: torch.Tensor | float = 0.0,
    mask: torch.Tensor | None = None,
) -> MARWILLoss:
    """Log likelihoods weighed by exp(beta * advantage / sqrt(norm)), and half the squared error of the values.

    `norm` is the running mean of squared advantages; it moves by `norm_rate` towards those of this batch first.
    `bonus` is added to the log likelihoods.
    """
    advantages = value_targets - values
    squared = masked_mean(advantages**2, mask)
    vf = 0.5 * squared
    norm = norm + norm_rate * (squared.detach() - norm)
    weights = torch.exp(beta * advantages / (1e-8 + norm.sqrt())).detach()
    policy = -masked_mean(weights * (logp + bonus), mask)
    return MARWILLoss(policy + vf_coeff * vf, policy, vf, norm)

"""The conservative parts of CQL (Kumar et al. 2020): values of actions that the data lacks are pushed down."""

from __future__ import annotations

import math

import torch


def conservative_penalty(
    *,
    q_data: torch.Tensor,
    q_random: torch.Tensor,
    q_next: torch.Tensor,
    q_current: torch.Tensor,
    logp_next: torch.Tensor,
    logp_current: torch.Tensor,
    action_size: int,
    temperature: float = 1.0,
    weight: float = 5.0,
) -> torch.Tensor:
    """The entropy form of the penalty: log-sum-exp of values over drawn actions minus the values of the data.

    `q_data` is [B], all others are [B, K]: values at the same observation of K drawn actions. Those are uniform in
    [-1, 1], the policy's at the next observation, and the policy's at this one. Each is weighed by its own density.
    """
    density = action_size * math.log(0.5)
    drawn = torch.cat([q_random - density, q_next - logp_next.detach(), q_current - logp_current.detach()], dim=1)
    high = torch.logsumexp(drawn / temperature, dim=1).mean() * temperature
    return weight * (high - q_data.mean())


def cql_actor_loss(
    *, log_alpha: torch.Tensor, logp_actor: torch.Tensor, q_actor: torch.Tensor, logp_data: torch.Tensor | None
) -> torch.Tensor:
    """The actor's loss of SAC; with `logp_data`, the first iterations clone the data's actions instead."""
    alpha = log_alpha.detach().exp()
    goal = q_actor if logp_data is None else logp_data
    return (alpha * logp_actor - goal).mean()

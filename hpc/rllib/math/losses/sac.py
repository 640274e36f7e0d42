"""Losses of soft actor-critic (Haarnoja et al. 2018): critics, actor and temperature, for both kinds of actions."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn import functional

from hpc.rllib.math.losses.dqn import pick


class SACLoss(NamedTuple):
    """`critic_twin` is None with one critic; `td_error` [B] is the mean |error| of the critics, without gradients."""

    actor: torch.Tensor
    critic: torch.Tensor
    critic_twin: torch.Tensor | None
    alpha: torch.Tensor
    td_error: torch.Tensor

    @property
    def total(self) -> torch.Tensor:
        """The sum of all parts; each part is minimised over its own parameters."""
        total = self.actor + self.critic + self.alpha
        return total if self.critic_twin is None else total + self.critic_twin


def critic_losses(
    q: torch.Tensor, q_twin: torch.Tensor | None, targets: torch.Tensor, weights: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
    """Huber losses of one or two critics against the same targets, and the mean |error| of each row."""

    def loss(values: torch.Tensor) -> torch.Tensor:
        rows = functional.huber_loss(values, targets, reduction="none")
        return (rows if weights is None else rows * weights).mean()

    error = (q - targets).detach().abs()
    if q_twin is None:
        return loss(q), None, error
    return loss(q), loss(q_twin), 0.5 * (error + (q_twin - targets).detach().abs())


def sac_continuous_loss(
    *,
    q: torch.Tensor,
    q_twin: torch.Tensor | None,
    q_target_next: torch.Tensor,
    logp_next: torch.Tensor,
    q_actor: torch.Tensor,
    logp_actor: torch.Tensor,
    log_alpha: torch.Tensor,
    rewards: torch.Tensor,
    terminateds: torch.Tensor,
    discounts: torch.Tensor | float,
    target_entropy: float,
    weights: torch.Tensor | None = None,
) -> SACLoss:
    """All tensors are [B]; the smaller of two critics is taken by the caller in `q_target_next` and `q_actor`.

    `q_actor` and `logp_actor` belong to actions that the policy drew just now, with gradients to the policy only.
    """
    alpha = log_alpha.detach().exp()
    with torch.no_grad():
        following = (q_target_next - alpha * logp_next) * (1.0 - terminateds.float())
        targets = rewards + discounts * following
    critic, critic_twin, td_error = critic_losses(q, q_twin, targets, weights)
    actor = (alpha * logp_actor - q_actor).mean()
    temperature = -(log_alpha * (logp_actor.detach() + target_entropy)).mean()
    return SACLoss(actor, critic, critic_twin, temperature, td_error)


def sac_discrete_loss(
    *,
    q: torch.Tensor,
    q_twin: torch.Tensor | None,
    q_target_next: torch.Tensor,
    probs_next: torch.Tensor,
    logp_next: torch.Tensor,
    probs: torch.Tensor,
    logp: torch.Tensor,
    log_alpha: torch.Tensor,
    actions: torch.Tensor,
    rewards: torch.Tensor,
    terminateds: torch.Tensor,
    discounts: torch.Tensor | float,
    target_entropy: float,
    weights: torch.Tensor | None = None,
) -> SACLoss:
    """As the continuous one with expectations over all actions instead of drawn ones; values are [B, A]."""
    alpha = log_alpha.detach().exp()
    with torch.no_grad():
        value = (probs_next * (q_target_next - alpha * logp_next)).sum(-1)
        targets = rewards + discounts * (1.0 - terminateds.float()) * value
    picked_twin = None if q_twin is None else pick(q_twin, actions)
    critic, critic_twin, td_error = critic_losses(pick(q, actions), picked_twin, targets, weights)
    least = (q if q_twin is None else torch.minimum(q, q_twin)).detach()
    actor = (probs * (alpha * logp - least)).sum(-1).mean()
    negative_entropy = (probs * logp).sum(-1).detach()
    temperature = -(log_alpha * (negative_entropy + target_entropy)).mean()
    return SACLoss(actor, critic, critic_twin, temperature, td_error)

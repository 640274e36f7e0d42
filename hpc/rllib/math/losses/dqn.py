"""Losses of Q learning: double (van Hasselt 2016), n-step, weighted, and over distributions (C51, Bellemare 2017)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn import functional

from hpc.rllib.math.losses.common import masked_mean


class DQNLoss(NamedTuple):
    """`td_error` is |error| per row without gradients; `q_selected` are the values of the actions taken."""

    total: torch.Tensor
    td_error: torch.Tensor
    q_selected: torch.Tensor


class C51Loss(NamedTuple):
    """`td_error` is the cross entropy per row without gradients."""

    total: torch.Tensor
    td_error: torch.Tensor


#: Values below are none: modules put masked actions there, at -1e30 or -inf.
MASKED = -1e29


def pick(values: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
    """The value of each row's action, over the last dimension; that of an action that was masked reads as 0.

    The best action is masked where all are: some environments allow none after the end of an episode.
    """
    chosen = values.gather(-1, actions.long().unsqueeze(-1)).squeeze(-1)
    return torch.where(chosen < MASKED, 0.0, chosen)


def dqn_loss(
    *,
    q: torch.Tensor,
    q_target_next: torch.Tensor,
    actions: torch.Tensor,
    rewards: torch.Tensor,
    terminateds: torch.Tensor,
    discounts: torch.Tensor | float,
    q_next: torch.Tensor | None = None,
    weights: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    loss_fn: str = "huber",
) -> DQNLoss:
    """The loss of `q` [..., A] at `actions` [...] against r + discount * (value of the next observation).

    `q_target_next` are the target network's values of the next observation. With `q_next`, those of the network that
    learns, the best action is theirs (double Q). `discounts` is gamma to the power of the steps that `rewards` sum up.
    `weights` correct for priorities. `loss_fn` is "huber" (delta 1) or "mse".
    """
    with torch.no_grad():
        best = (q_target_next if q_next is None else q_next).argmax(-1)
        following = pick(q_target_next, best) * (1.0 - terminateds.float())
        targets = rewards + discounts * following
    selected = pick(q, actions)
    if loss_fn == "huber":
        losses = functional.huber_loss(selected, targets, reduction="none")
    elif loss_fn == "mse":
        losses = functional.mse_loss(selected, targets, reduction="none")
    else:
        raise ValueError(f'td_error_loss_fn must be "huber" or "mse", not {loss_fn!r}')
    if weights is not None:
        losses = losses * weights
    return DQNLoss(masked_mean(losses, mask), (selected - targets).detach().abs(), selected)


def categorical_projection(
    probabilities: torch.Tensor,
    rewards: torch.Tensor,
    discounts: torch.Tensor,
    v_min: float,
    v_max: float,
) -> torch.Tensor:
    """The distribution of r + discount * Z on the atoms between v_min and v_max, [..., atoms].

    `probabilities` [..., atoms] is the distribution of Z on the same atoms. `discounts` [...] is 0 after an end. Mass
    between two atoms is shared by distance; mass outside goes to the outermost atom.
    """
    count = probabilities.shape[-1]
    width = (v_max - v_min) / (count - 1)
    atoms = torch.linspace(v_min, v_max, count, device=probabilities.device, dtype=probabilities.dtype)
    moved = (rewards.unsqueeze(-1) + discounts.unsqueeze(-1) * atoms).clamp(v_min, v_max)
    # Rounding may put the highest place a hair above the last atom.
    place = ((moved - v_min) / width).clamp(0, count - 1)
    low = place.floor()
    up = place - low
    low_index = low.long()
    up_index = (low_index + 1).clamp(max=count - 1)
    projected = torch.zeros_like(probabilities)
    projected.scatter_add_(-1, low_index, probabilities * (1.0 - up))
    projected.scatter_add_(-1, up_index, probabilities * up)
    return projected


def c51_loss(
    *,
    q_logits: torch.Tensor,
    q_next: torch.Tensor,
    target_next_probs: torch.Tensor,
    actions: torch.Tensor,
    rewards: torch.Tensor,
    terminateds: torch.Tensor,
    discounts: torch.Tensor,
    v_min: float,
    v_max: float,
    weights: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
) -> C51Loss:
    """Cross entropy of the logits [..., A, atoms] at the actions with the projected target distribution.

    `q_next` [..., A] chooses the next action: expected values of the learning network (double Q) or of the target one.
    """

    def of_actions(distributions: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        index = chosen.long()[..., None, None].expand(*chosen.shape, 1, distributions.shape[-1])
        return distributions.gather(-2, index).squeeze(-2)

    with torch.no_grad():
        following = of_actions(target_next_probs, q_next.argmax(-1))
        keep = discounts * (1.0 - terminateds.float())
        targets = categorical_projection(following, rewards, keep, v_min, v_max)
    losses = -(targets * of_actions(q_logits, actions).log_softmax(-1)).sum(-1)
    weighted = losses if weights is None else losses * weights
    return C51Loss(masked_mean(weighted, mask), losses.detach())

"""V-trace targets (Espeholt et al. 2018) over time-major tensors, with episodes that end inside of a column."""

from __future__ import annotations

from typing import NamedTuple

import torch


class VTrace(NamedTuple):
    """Value targets and advantages of the policy gradient, both [T, B] and without gradients."""

    vs: torch.Tensor
    pg_advantages: torch.Tensor


@torch.no_grad()
def vtrace(
    *,
    target_logp: torch.Tensor,
    behaviour_logp: torch.Tensor,
    rewards: torch.Tensor,
    values: torch.Tensor,
    next_values: torch.Tensor,
    discounts: torch.Tensor,
    cuts: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    lambda_: float = 1.0,
    clip_rho: float | None = 1.0,
    clip_pg_rho: float | None = 1.0,
) -> VTrace:
    """Corrects for the lag of the policy that acted behind the one that learns. All tensors are [T, B].

    `next_values[t]` is the value of the observation after step t: `values[t + 1]` inside of an episode, the bootstrap
    value at truncations and at the last row. `discounts` is gamma, or 0 where the episode terminated. `cuts` is True
    where nothing may flow back from row t + 1 (truncation; terminated rows need none). Rows where `mask` is False
    count for nothing and give zeros. `clip_rho` and `clip_pg_rho` bound importance weights; None leaves them.
    """
    rhos = torch.exp(target_logp - behaviour_logp)
    clipped = rhos if clip_rho is None else rhos.clamp(max=clip_rho)
    deltas = clipped * (rewards + discounts * next_values - values)
    flow = discounts * lambda_ * rhos.clamp(max=1.0)
    if cuts is not None:
        flow = flow * ~cuts
    if mask is not None:
        deltas = deltas * mask
        flow = flow * mask
    corrections = torch.empty_like(deltas)
    running = torch.zeros_like(deltas[0])
    for t in range(len(deltas) - 1, -1, -1):
        running = torch.addcmul(deltas[t], flow[t], running)
        corrections[t] = running
    vs = values + corrections
    # The target after step t: vs of the next row inside of an episode, the plain value over a cut and at the end.
    inside = torch.zeros_like(corrections)
    inside[:-1] = corrections[1:]
    if cuts is not None:
        inside = inside * ~cuts
    if mask is not None:
        vs = vs * mask
        inside[:-1] *= mask[1:]
    weights = rhos if clip_pg_rho is None else rhos.clamp(max=clip_pg_rho)
    advantages = weights * (rewards + discounts * (next_values + inside) - values)
    return VTrace(vs, advantages if mask is None else advantages * mask)

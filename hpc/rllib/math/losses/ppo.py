"""The clipped surrogate loss of PPO (Schulman et al. 2017) with clipped value errors and a penalty on KL."""

from __future__ import annotations

from typing import NamedTuple

import torch

from hpc.rllib.math.losses.common import masked_mean


class PPOLoss(NamedTuple):
    """Scalars, all with gradients where they have some."""

    total: torch.Tensor
    policy: torch.Tensor
    vf: torch.Tensor
    vf_unclipped: torch.Tensor
    entropy: torch.Tensor
    kl: torch.Tensor


def ppo_loss(
    *,
    logp: torch.Tensor,
    old_logp: torch.Tensor,
    advantages: torch.Tensor,
    entropy: torch.Tensor | None,
    values: torch.Tensor | None,
    value_targets: torch.Tensor | None,
    kl: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    clip_param: float = 0.3,
    vf_clip_param: float = 10.0,
    vf_loss_coeff: float = 1.0,
    entropy_coeff: float | torch.Tensor = 0.0,
    kl_coeff: float | torch.Tensor = 0.0,
    stats: bool = True,
) -> PPOLoss:
    """All tensors have one shape, [B] or [B, L]. Squared errors of values are cut at `vf_clip_param`.

    Without `values` there is no critic; without `entropy`, and without `kl` (of the old from the new policy), there is
    no such term. Without `stats`, the unclipped error is 0.
    """
    ratio = torch.exp(logp - old_logp)
    surrogate = torch.minimum(advantages * ratio, advantages * ratio.clamp(1.0 - clip_param, 1.0 + clip_param))
    policy = -masked_mean(surrogate, mask)
    total = policy
    vf = vf_unclipped = mean_kl = mean_entropy = torch.zeros((), device=logp.device)
    if entropy is not None:
        mean_entropy = masked_mean(entropy, mask)
        total = total - entropy_coeff * mean_entropy
    if values is not None:
        assert value_targets is not None
        errors = (values - value_targets) ** 2
        vf = masked_mean(errors.clamp(max=vf_clip_param), mask)
        if stats:
            vf_unclipped = masked_mean(errors.detach(), mask)
        total = total + vf_loss_coeff * vf
    if kl is not None:
        mean_kl = masked_mean(kl, mask)
        total = total + kl_coeff * mean_kl
    return PPOLoss(total, policy, vf, vf_unclipped, mean_entropy, mean_kl)

"""What several losses need: means over valid rows and explained variance, both without a copy to the host."""

from __future__ import annotations

import torch


def masked_mean(values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """The mean over the rows where the mask is True; over all rows without a mask."""
    if mask is None:
        return values.mean()
    # where, not *: a masked row may hold inf or nan, and 0 * nan is nan.
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)


def masked_max(values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """The largest value where the mask is True."""
    return values.max() if mask is None else values.masked_fill(~mask, -torch.inf).max()


def masked_min(values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """The smallest value where the mask is True."""
    return values.min() if mask is None else values.masked_fill(~mask, torch.inf).min()


@torch.no_grad()
def explained_variance(
    targets: torch.Tensor, predictions: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """The share of the targets' variance that the predictions explain; at least -1."""
    rest = targets - predictions
    variance = masked_mean((targets - masked_mean(targets, mask)) ** 2, mask)
    left = masked_mean((rest - masked_mean(rest, mask)) ** 2, mask)
    return (1.0 - left / variance.clamp(min=1e-30)).clamp(min=-1.0)

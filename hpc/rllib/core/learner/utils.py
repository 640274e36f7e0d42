"""Target networks: copies that follow their originals slowly."""

from __future__ import annotations

import copy
from typing import Any

import torch


def make_target_network(main_net: Any) -> Any:
    """A copy of a network, whose parameters are not trained."""
    if not isinstance(main_net, torch.nn.Module):
        raise ValueError(f"a target network is made of a torch module, not of {type(main_net).__name__}")
    return copy.deepcopy(main_net).requires_grad_(False)


@torch.no_grad()
def update_target_network(*, main_net: Any, target_net: Any, tau: float) -> None:
    """Move a copy by the share ``tau`` towards its original; 1.0 copies it."""
    mine = [*target_net.parameters(), *target_net.buffers()]
    theirs = [*main_net.parameters(), *main_net.buffers()]
    if tau == 1.0:
        torch._foreach_copy_(mine, theirs)
        return
    # Counts, as batch normalisation has them, have no share: they are copied.
    counts = [i for i, tensor in enumerate(mine) if not tensor.is_floating_point()]
    for i in reversed(counts):
        mine.pop(i).copy_(theirs.pop(i))
    torch._foreach_lerp_(mine, theirs, tau)

"""The small network that probes train: 3.7 million parameters."""

from __future__ import annotations

from typing import Any

INPUTS, OUTPUTS, WIDE, BATCH = 512, 10, 1024, 16


def network() -> Any:
    """A torch module with the same weights in each process."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers: list[Any] = [torch.nn.Linear(INPUTS, WIDE), torch.nn.ReLU()]
    for _ in range(3):
        layers += [torch.nn.Linear(WIDE, WIDE), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(WIDE, OUTPUTS))

"""Functions on tensors that programs use in their own modules and losses."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from hpc.rllib.utils.trees import map_tree

FLOAT_MIN = -3.4e38
FLOAT_MAX = 3.4e38


def convert_to_torch_tensor(x: Any, device: Any = None, pin_memory: bool = False) -> Any:
    """Arrays within a nested structure as tensors of a device; float64 becomes float32."""

    def convert(leaf: Any) -> Any:
        if isinstance(leaf, list):
            return [map_tree(convert, part) for part in leaf]
        if isinstance(leaf, torch.Tensor):
            tensor = leaf
        else:
            array = np.asarray(leaf)
            tensor = torch.from_numpy(array if array.flags.writeable else array.copy())
        tensor = tensor.float() if tensor.dtype == torch.float64 else tensor
        if pin_memory and torch.cuda.is_available():
            tensor = tensor.pin_memory()
        return tensor if device is None else tensor.to(device)

    return map_tree(convert, x)


def explained_variance(y: torch.Tensor, pred: torch.Tensor) -> torch.Tensor:
    """1 where predictions are right, 0 where they say no more than the mean, at least -1."""
    variance = y.var(dim=0)
    return (1.0 - (y - pred).var(dim=0) / (variance + 1e-8)).clamp(min=-1.0)


def one_hot(x: torch.Tensor, space: Any) -> torch.Tensor:
    """Numbers of a Discrete space as rows with one 1; of a MultiDiscrete one as several such rows, side by side."""
    if hasattr(space, "nvec"):
        parts = [torch.nn.functional.one_hot(x[:, at].long(), int(n)) for at, n in enumerate(space.nvec)]
        return torch.cat(parts, dim=-1).float()
    return torch.nn.functional.one_hot((x - int(space.start)).long(), int(space.n)).float()

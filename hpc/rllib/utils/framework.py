"""Torch for programs that ask whether it is there."""

from __future__ import annotations

from typing import Any


def try_import_torch(error: bool = False) -> tuple[Any, Any]:
    """torch and torch.nn. hpc.rllib needs them, so they are there."""
    import torch
    from torch import nn

    return torch, nn


def try_import_tf(error: bool = False) -> tuple[None, None, None]:
    """Nothing: hpc.rllib has torch only. Raises ImportError if an error is wanted."""
    if error:
        raise ImportError("hpc.rllib has torch only")
    return None, None, None


def get_device(config: Any, num_gpus_requested: float = 1) -> Any:
    """The device of this process's learner, by its configuration."""
    import torch

    if not num_gpus_requested:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise RuntimeError(f"{num_gpus_requested} GPUs are asked for, and torch sees none: set num_gpus_per_learner=0")
    return torch.device(f"cuda:{config.local_gpu_idx}")

"""The devices of a rank, as torch names them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpc.train.loop import current_loop

if TYPE_CHECKING:
    import torch


def get_device() -> torch.device:
    """This rank's device: its first GPU, else the CPU."""
    return get_devices()[0]


def get_devices() -> list[torch.device]:
    """This rank's devices: its GPUs, else the CPU."""
    import torch

    identity = current_loop("torch.get_devices").identity
    return [torch.device("cuda", index) for index in identity.devices] or [torch.device("cpu")]

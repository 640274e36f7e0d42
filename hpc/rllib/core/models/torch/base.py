"""A Model that is a torch module."""

from __future__ import annotations

from typing import Any

from torch import nn

from hpc.rllib.core.models.base import Model


class TorchModel(nn.Module, Model):
    """A part of a module, as a torch network; calling it calls ``_forward``."""

    def __init__(self, config: Any) -> None:
        nn.Module.__init__(self)
        Model.__init__(self, config)

    def forward(self, inputs: Any, **kwargs: Any) -> Any:
        return self._forward(inputs, **kwargs)

    def get_num_parameters(self) -> tuple[int, int]:
        trained = sum(p.numel() for p in self.parameters() if p.requires_grad)
        return trained, sum(p.numel() for p in self.parameters()) - trained

"""TorchRLModule: an RLModule that is a torch module."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from torch import nn

from hpc.rllib.core.models.catalog import dist_cls_of
from hpc.rllib.core.rl_module.apis.inference_only_api import InferenceOnlyAPI
from hpc.rllib.core.rl_module.rl_module import RLModule


class TorchRLModule(nn.Module, RLModule):
    """An RLModule of torch. Inference and exploration run in eval mode without gradients, training in train mode."""

    framework = "torch"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        nn.Module.__init__(self)
        RLModule.__init__(self, *args, **kwargs)
        if self.inference_only and isinstance(self, InferenceOnlyAPI):
            for path in self.get_non_inference_attributes():
                self._drop(path)

    def _drop(self, path: str) -> None:
        *parents, name = path.split(".")
        owner: Any = self
        for parent in parents:
            owner = getattr(owner, parent, None)
        if getattr(owner, name, None) is not None:
            delattr(owner, name)

    def compile(self, compile_config: Any = None) -> None:  # type: ignore[override]
        """Compile the forward passes by torch.compile. compile_config has torch_dynamo_backend, _mode and kwargs."""
        how = dict(getattr(compile_config, "kwargs", None) or {})
        how["backend"] = getattr(compile_config, "torch_dynamo_backend", None) or "inductor"
        how["mode"] = getattr(compile_config, "torch_dynamo_mode", None)
        for name in ("_forward_train", "_forward_inference", "_forward_exploration"):
            setattr(self, name, torch.compile(getattr(self, name), **how))

    def forward_inference(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return self._in_eval_mode(self._forward_inference, batch, kwargs)

    def forward_exploration(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return self._in_eval_mode(self._forward_exploration, batch, kwargs)

    def forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        if not self.training:
            self.train()
        return super().forward_train(batch, **kwargs)

    def _in_eval_mode(self, function: Any, batch: dict[str, Any], kwargs: dict[str, Any]) -> dict[str, Any]:
        if not self.training:
            return function(batch, **kwargs)
        self.eval()
        try:
            return function(batch, **kwargs)
        finally:
            self.train()

    def _forward_inference(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        with torch.no_grad():
            return self._forward(batch, **kwargs)

    def _forward_exploration(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        with torch.no_grad():
            return self._forward(batch, **kwargs)

    def forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """The training pass; the exploration pass of an inference_only module."""
        return self.forward_exploration(batch, **kwargs) if self.inference_only else self.forward_train(batch, **kwargs)

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        inference_only: bool = False,
        **kwargs: Any,
    ) -> dict[str, np.ndarray]:
        """Copies of the weights as arrays by name; inference_only: those that acting needs."""
        left_out: list[str] = []
        if inference_only and not self.inference_only and isinstance(self, InferenceOnlyAPI):
            left_out = self.get_non_inference_attributes()
        return {
            name: tensor.detach().to("cpu", copy=True).numpy()
            for name, tensor in self.state_dict().items()
            if not any(name == path or name.startswith(f"{path}.") for path in left_out)
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Load weights by name. Names that the module does not have are left out.

        An inference_only module raises a ValueError where one of its own is missing.
        """
        # Arrays that came through shared memory cannot be written to: they are only read here.
        tensors = {name: torch.as_tensor(np.require(value, requirements="W")) for name, value in state.items()}
        missing, _ = self.load_state_dict(tensors, strict=False)
        if self.inference_only and missing:
            raise ValueError(f"the state has no weights {missing}, only {sorted(state)}: it is of another module")

    def get_inference_action_dist_cls(self) -> Any:
        if self.action_dist_cls is not None:
            return self.action_dist_cls
        try:
            return dist_cls_of(self.action_space)
        except (NotImplementedError, ValueError) as error:
            raise ValueError(
                f"{error}; set self.action_dist_cls in setup(), or define get_inference_action_dist_cls(), "
                "get_exploration_action_dist_cls() and get_train_action_dist_cls()"
            ) from error

    def get_exploration_action_dist_cls(self) -> Any:
        return self.get_inference_action_dist_cls()

    def get_train_action_dist_cls(self) -> Any:
        return self.get_inference_action_dist_cls()

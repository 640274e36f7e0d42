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

    def compile(self, compile_config: Any = None) -> None:
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
            for name, tensor in self._weights()
            if not any(name == path or name.startswith(f"{path}.") for path in left_out)
        }

    def _weights(self) -> list[tuple[str, torch.Tensor]]:
        """Names and tensors of the state, by one walk: ``state_dict`` makes a dict and hooks for each submodule."""
        found: list[tuple[str, torch.Tensor]] = []
        for prefix, module in self.named_modules():
            if module._state_dict_hooks or type(module).get_extra_state is not nn.Module.get_extra_state:
                return list(self.state_dict().items())
            dot = f"{prefix}." if prefix else ""
            found += [(dot + name, tensor) for name, tensor in module._parameters.items() if tensor is not None]
            left_out = module._non_persistent_buffers_set
            buffers = module._buffers.items()
            found += [(dot + name, t) for name, t in buffers if t is not None and name not in left_out]
        return found

    def set_state(self, state: dict[str, Any]) -> None:
        """Load weights by name. Names that the module does not have are left out.

        An inference_only module raises a ValueError where one of its own is missing.
        """
        own = dict(self._weights())
        missing = sorted(set(own) - set(state)) if self.inference_only else []
        if missing:
            raise ValueError(f"the state has no weights {missing}, only {sorted(state)}: it is of another module")
        with torch.no_grad():
            for name, value in state.items():
                tensor = own.get(name)
                if tensor is None:
                    continue
                if tuple(tensor.shape) != tuple(value.shape):
                    raise ValueError(
                        f"weights {name!r} are {tuple(value.shape)}, but the module's {tuple(tensor.shape)}"
                    )
                # Arrays that came through shared memory cannot be written to: torch wants those that can.
                tensor.copy_(torch.as_tensor(np.require(value, requirements="W")))

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

"""Mixed precision for a training function: autocast around the model, and a scaler of gradients for float16.

Without a scaler gradients in float16 vanish. bfloat16 needs none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

from hpc.train.devices import get_device
from hpc.train.loop import Loop, current_loop


class Precision:
    """How one training function computes."""

    def __init__(self, loop: Loop, device: torch.device, dtype: torch.dtype) -> None:
        self.loop = loop
        self.device = device
        self.dtype = dtype
        scaler: Any = torch.amp.GradScaler
        self.scaler: Any = scaler(device.type) if dtype is torch.float16 else None

    def around(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        """The model's forward inside autocast; what it returns is float32 again, so that the loss is exact."""

        def mixed(*args: Any, **kwargs: Any) -> Any:
            with torch.autocast(self.device.type, dtype=self.dtype):
                value = forward(*args, **kwargs)
            return _wide(value, self.dtype)

        return mixed


_precision: Precision | None = None


def accelerate(amp: bool, dtype: Any) -> None:
    """See hpc.train.torch.accelerate."""
    global _precision
    loop = current_loop("torch.accelerate")
    if _precision is not None and _precision.loop is loop:
        raise RuntimeError("accelerate() can be called once, before the model and the optimizer are prepared")
    if not amp:
        return
    device = get_device()
    if dtype is None:
        half = device.type == "cuda" and not torch.cuda.is_bf16_supported()
        dtype = torch.float16 if half else torch.bfloat16
    elif isinstance(dtype, str):
        dtype = getattr(torch, dtype, dtype)
    if dtype not in (torch.float16, torch.bfloat16):
        raise ValueError(f"accelerate(dtype=...) must be torch.bfloat16 or torch.float16, not {dtype!r}")
    _precision = Precision(loop, device, dtype)


def precision() -> Precision | None:
    """That of the training function which runs, if it has asked for one."""
    return _precision if _precision is not None and _precision.loop is current_loop("torch.accelerate") else None


def prepare_optimizer(optimizer: Optimizer) -> Optimizer:
    """See hpc.train.torch.prepare_optimizer."""
    now = precision()
    if now is None or now.scaler is None:
        return optimizer
    made: Optimizer = ScaledOptimizer(optimizer, now.scaler)
    return made


def backward(tensor: torch.Tensor) -> None:
    """See hpc.train.torch.backward."""
    now = precision()
    (tensor if now is None or now.scaler is None else now.scaler.scale(tensor)).backward()


class _Scaled:
    """Makes of an optimizer one whose steps go through a scaler; all else is the given optimizer's."""

    def __init__(self, inner: Optimizer, scaler: Any) -> None:
        self._hpc_inner = inner
        self._hpc_scaler = scaler

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_hpc_inner"], name)

    def step(self, closure: Any = None) -> Any:
        """A step by unscaled gradients; none where they are infinite. Then the scale is adapted."""
        if closure is not None:
            raise ValueError("an optimizer that scales gradients takes no closure: call backward() before step()")
        result = self._hpc_scaler.step(self._hpc_inner)
        self._hpc_scaler.update()
        return result

    def unscale_(self) -> None:
        """Make the gradients what they are: before they are clipped."""
        self._hpc_scaler.unscale_(self._hpc_inner)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        self._hpc_inner.zero_grad(set_to_none)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Train these parameters too."""
        self._hpc_inner.add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's state, and the scale."""
        return {**self._hpc_inner.state_dict(), "grad_scaler": self._hpc_scaler.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over such a state, or one of a plain optimizer."""
        state = dict(state_dict)
        scale = state.pop("grad_scaler", None)
        self._hpc_inner.load_state_dict(state)
        if scale is not None:
            self._hpc_scaler.load_state_dict(scale)

    def __repr__(self) -> str:
        return repr(self._hpc_inner)


#: The same as an Optimizer, for those who ask with isinstance. Its __init__ is never run: the state is the inner one's.
ScaledOptimizer: Any = type("ScaledOptimizer", (_Scaled, Optimizer), {})


def _wide(value: Any, dtype: torch.dtype) -> Any:
    """Tensors of this type as float32; through lists, tuples, named tuples and dicts."""
    if isinstance(value, torch.Tensor):
        return value.float() if value.dtype is dtype else value
    if isinstance(value, dict):
        items = {key: _wide(one, dtype) for key, one in value.items()}
        try:
            return type(value)(**items)
        except TypeError:
            return items
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_wide(one, dtype) for one in value))
    if isinstance(value, (list, tuple)):
        return type(value)(_wide(one, dtype) for one in value)
    return value

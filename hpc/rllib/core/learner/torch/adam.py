"""Adam with less between its steps: torch's fused kernel over lists that are made once.

torch.optim.Adam groups its tensors anew in each step, counts the steps of each by itself, and opens a range for
profilers. With 14 small tensors that costs more than the step itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import optimizer as of_torch


class FastAdam(torch.optim.Adam):
    """torch.optim.Adam with ``fused=True``: the same numbers, settings and state."""

    def __init__(self, params: Any, lr: float = 1e-3, **kwargs: Any) -> None:
        super().__init__(params, lr=lr, **{"fused": True, **kwargs})
        self._lists: list[tuple[dict[str, Any], Any]] = []

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; torch's own where a gradient is missing, or where a GradScaler says what was infinite."""
        if self._has_hooks() or closure is not None or hasattr(self, "found_inf") or not self._ready():
            self._lists = []
            return _SLOW_STEP(self, closure)
        for group, (params, averages, squares, steps, count) in self._lists:
            beta1, beta2 = group["betas"]
            count += 1
            torch._fused_adam_(
                params,
                [param.grad for param in params],
                averages,
                squares,
                [],
                steps,
                lr=group["lr"],
                beta1=beta1,
                beta2=beta2,
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=False,
                maximize=group["maximize"],
                grad_scale=None,
                found_inf=None,
            )
        return None

    # torch puts a step that is not marked so into a range for profilers, and calls hooks there.
    step.hooked = True

    def _has_hooks(self) -> bool:
        everywhere = of_torch._global_optimizer_pre_hooks or of_torch._global_optimizer_post_hooks
        return bool(self._optimizer_step_pre_hooks or self._optimizer_step_post_hooks or everywhere)

    def _ready(self) -> bool:
        """Whether all parameters have state and gradients, so that lists of them can be used again."""
        if any(param.grad is None for group in self.param_groups for param in group["params"]):
            return False
        if not self._lists:
            self._lists = [(group, lists) for group in self.param_groups if (lists := self._lists_of(group))]
        return len(self._lists) == len(self.param_groups)

    def _lists_of(self, group: dict[str, Any]) -> Any:
        params = group["params"]
        states = [self.state[param] for param in params if param in self.state]
        if len(states) < len(params) or group["amsgrad"] or not group["fused"] or len({p.device for p in params}) > 1:
            return None
        if group.get("decoupled_weight_decay"):  # which is AdamW's kernel
            return None
        count = torch.stack([state["step"] for state in states])
        for state, own in zip(states, count.unbind()):
            # Views of one tensor: all of them are counted at once.
            state["step"] = own
        names = ("exp_avg", "exp_avg_sq", "step")
        return params, *([state[name] for state in states] for name in names), count

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Also called by torch for a copy, whose state has no more than torch's own.
        self._lists = []
        super().__setstate__(state)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._lists = []
        super().load_state_dict(state_dict)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        self._lists = []
        super().add_param_group(param_group)


#: torch's step with its hooks. torch marks that of a class so when the first Adam of a program is made.
_SLOW_STEP: Callable[..., Any] = torch.optim.Adam.step
if not getattr(_SLOW_STEP, "hooked", False):
    _SLOW_STEP = torch.optim.Optimizer.profile_hook_step(_SLOW_STEP)

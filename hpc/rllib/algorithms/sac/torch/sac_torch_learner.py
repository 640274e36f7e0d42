"""SAC's losses on batches of torch tensors."""

from __future__ import annotations

import math
from typing import Any

import torch
from gymnasium.spaces import Discrete

from hpc.rllib.algorithms.sac.sac_learner import (
    ACTION_LOG_PROBS,
    ACTION_LOG_PROBS_NEXT,
    ACTION_PROBS,
    ACTION_PROBS_NEXT,
    LOGPS_KEY,
    QF_LOSS_KEY,
    QF_MAX_KEY,
    QF_MEAN_KEY,
    QF_MIN_KEY,
    QF_PREDS,
    QF_TARGET_NEXT,
    QF_TWIN_LOSS_KEY,
    QF_TWIN_PREDS,
    TD_ERROR_MEAN_KEY,
    SACLearner,
)
from hpc.rllib.core.columns import Columns
from hpc.rllib.core.learner.learner import POLICY_LOSS_KEY
from hpc.rllib.core.learner.torch.adam import FastAdam
from hpc.rllib.core.learner.torch.torch_learner import TorchLearner
from hpc.rllib.math.losses import SACLoss, sac_continuous_loss, sac_discrete_loss
from hpc.rllib.utils.metrics import TD_ERROR_KEY

#: Adam's epsilon of all parts.
ADAM_EPSILON = 1e-7


class SACTorchLearner(SACLearner, TorchLearner):
    """SAC with torch. The parts of the loss share no parameters, so one backward pass serves all of them."""

    def build(self) -> None:
        """Build modules, optimizers, target networks and temperatures."""
        if self._is_built:
            return
        self.curr_log_alpha: dict[str, torch.nn.Parameter] = {}
        super().build()

    def log_alpha(self, module_id: str) -> torch.nn.Parameter:
        """The logarithm of the temperature, which is trained."""
        if module_id not in self.curr_log_alpha:
            first = math.log(self.config.get_config_for_module(module_id).initial_alpha)
            self.curr_log_alpha[module_id] = torch.nn.Parameter(torch.tensor([first], device=self._device))
        return self.curr_log_alpha[module_id]

    def remove_module(self, module_id: str, **kwargs: Any) -> Any:
        """Forget the module's temperature, too."""
        spec = super().remove_module(module_id, **kwargs)
        self.curr_log_alpha.pop(module_id, None)
        return spec

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """One Adam for each critic, for the policy and for the temperature."""
        config = config or self.config.get_config_for_module(module_id)
        module: Any = self.module[module_id].unwrapped()
        parts = {"qf": (config.critic_lr, (module.qf_encoder, module.qf))}
        if config.twin_q:
            parts["qf_twin"] = (config.critic_lr, (module.qf_twin_encoder, module.qf_twin))
        parts["policy"] = (config.actor_lr, (module.pi_encoder, module.pi))
        for name, (lr, nets) in parts.items():
            self._register(module_id, name, [p for net in nets for p in self.get_parameters(net)], lr)
        self._register(module_id, "alpha", [self.log_alpha(module_id)], config.alpha_lr)

    def _register(self, module_id: str, name: str, params: list[Any], lr: Any) -> None:
        self.register_optimizer(
            module_id=module_id,
            optimizer_name=name,
            optimizer=FastAdam(params, eps=ADAM_EPSILON),
            params=params,
            lr_or_lr_schedule=lr,
        )

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Any], fwd_out: dict[str, Any]
    ) -> torch.Tensor:
        """The sum of all parts of the loss."""
        shared = {
            "log_alpha": self.log_alpha(module_id),
            "rewards": batch[Columns.REWARDS],
            "terminateds": batch[Columns.TERMINATEDS],
            "discounts": config.gamma ** batch["n_step"],
            "target_entropy": self.target_entropy_of(module_id),
            "weights": batch.get("weights"),
            "q": fwd_out[QF_PREDS],
            "q_twin": fwd_out[QF_TWIN_PREDS] if config.twin_q else None,
            "q_target_next": fwd_out[QF_TARGET_NEXT],
        }
        if isinstance(self.module[module_id].unwrapped().action_space, Discrete):
            loss = sac_discrete_loss(
                **shared,
                probs_next=fwd_out[ACTION_PROBS_NEXT],
                logp_next=fwd_out[ACTION_LOG_PROBS_NEXT],
                probs=fwd_out[ACTION_PROBS],
                logp=fwd_out[ACTION_LOG_PROBS],
                actions=batch[Columns.ACTIONS],
            )
            self._log(module_id, config, loss, fwd_out[ACTION_LOG_PROBS], fwd_out[QF_PREDS])
        else:
            loss = sac_continuous_loss(
                **shared,
                logp_next=fwd_out["logp_next_resampled"],
                q_actor=fwd_out["q_curr"],
                logp_actor=fwd_out["logp_resampled"],
            )
            self._log(module_id, config, loss, fwd_out["logp_resampled"], fwd_out["q_curr"])
        return loss.total

    def _log(self, module_id: str, config: Any, loss: SACLoss, logp: torch.Tensor, q: torch.Tensor) -> None:
        self.metrics.log_value((module_id, TD_ERROR_KEY), loss.td_error, reduce="item_series")
        with torch.no_grad():
            log_alpha = self.log_alpha(module_id)[0].clone()
            stats = {
                POLICY_LOSS_KEY: loss.actor,
                QF_LOSS_KEY: loss.critic,
                "alpha_loss": loss.alpha,
                "alpha_value": log_alpha.exp(),
                "log_alpha_value": log_alpha,
                "target_entropy": self.target_entropy_of(module_id),
                LOGPS_KEY: logp.mean(),
                QF_MEAN_KEY: q.mean(),
                QF_MAX_KEY: q.max(),
                QF_MIN_KEY: q.min(),
                TD_ERROR_MEAN_KEY: loss.td_error.mean(),
            }
        if loss.critic_twin is not None:
            stats[QF_TWIN_LOSS_KEY] = loss.critic_twin
        self.metrics.log_dict(stats, key=module_id, window=1)

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The state of every learner with target networks, and the temperatures."""
        alphas = {module_id: value.detach().cpu().numpy().copy() for module_id, value in self.curr_log_alpha.items()}
        return {**super().get_state(*args, **kwargs), "log_alphas": alphas}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take the state of an equal learner."""
        super().set_state(state)
        with torch.no_grad():
            for module_id, value in state.get("log_alphas", {}).items():
                self.log_alpha(module_id).copy_(torch.as_tensor(value))

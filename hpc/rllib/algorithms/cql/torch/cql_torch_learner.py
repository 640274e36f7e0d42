"""CQL's losses on batches of torch tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from hpc.rllib.algorithms.sac.sac_learner import (
    LOGPS_KEY,
    QF_LOSS_KEY,
    QF_MAX_KEY,
    QF_MEAN_KEY,
    QF_MIN_KEY,
    QF_PREDS,
    QF_TWIN_LOSS_KEY,
    QF_TWIN_PREDS,
    TD_ERROR_MEAN_KEY,
)
from hpc.rllib.algorithms.sac.torch.sac_torch_learner import SACTorchLearner
from hpc.rllib.core.columns import Columns
from hpc.rllib.core.learner.learner import POLICY_LOSS_KEY
from hpc.rllib.math.losses import conservative_penalty, cql_actor_loss


class CQLTorchLearner(SACTorchLearner):
    """CQL with torch."""

    def build(self) -> None:
        """Build what SAC has, and count updates, since the first ones clone."""
        if self._is_built:
            return
        self.updates_by_module: dict[str, int] = {}
        super().build()

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Any], fwd_out: dict[str, Any]
    ) -> torch.Tensor:
        """The sum of all parts of the loss."""
        self.updates_by_module[module_id] = self.updates_by_module.get(module_id, 0) + 1
        log_alpha, entropy = self.log_alpha(module_id), self.target_entropy_of(module_id)
        alpha = log_alpha.detach().exp()
        logp_data = None
        if self.updates_by_module[module_id] <= config.bc_iters:
            kind = self.module[module_id].unwrapped().get_train_action_dist_cls()
            logp_data = kind.from_logits(fwd_out[Columns.ACTION_DIST_INPUTS]).logp(batch[Columns.ACTIONS])
        logp_actor = fwd_out["logp_resampled"]
        actor = cql_actor_loss(
            log_alpha=log_alpha, logp_actor=logp_actor, q_actor=fwd_out["q_curr"], logp_data=logp_data
        )
        temperature = -(log_alpha * (logp_actor.detach() + entropy)).mean()
        with torch.no_grad():
            following = fwd_out["q_target_next"]
            if not config.deterministic_backup:
                following = following - alpha * fwd_out["logp_next_resampled"]
            discounts = config.gamma ** batch["n_step"] if "n_step" in batch else config.gamma
            targets = batch[Columns.REWARDS] + discounts * (1.0 - batch[Columns.TERMINATEDS].float()) * following
        critic, penalty, error = self._critic(config, fwd_out, targets, "")
        stats: dict[str, Any] = {QF_LOSS_KEY: critic, "cql_loss": penalty}
        total: torch.Tensor = actor + temperature + critic
        if config.twin_q:
            twin, _, twin_error = self._critic(config, fwd_out, targets, "twin_")
            stats[QF_TWIN_LOSS_KEY] = twin
            error = 0.5 * (error + twin_error)
            total = total + twin
        with torch.no_grad():
            q = fwd_out["q_curr_repeat"]
            stats |= {
                POLICY_LOSS_KEY: actor,
                "alpha_loss": temperature,
                "alpha_value": alpha[0],
                "log_alpha_value": log_alpha[0].clone(),
                "target_entropy": entropy,
                LOGPS_KEY: logp_actor.mean(),
                QF_MEAN_KEY: q.mean(),
                QF_MAX_KEY: q.max(),
                QF_MIN_KEY: q.min(),
                TD_ERROR_MEAN_KEY: error.mean(),
            }
        self.metrics.log_dict(stats, key=module_id, window=1)
        return total

    def _critic(
        self, config: Any, fwd_out: dict[str, Any], targets: torch.Tensor, which: str
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The loss of one critic, the penalty in it, and the error of each row."""
        selected = fwd_out[QF_TWIN_PREDS if which else QF_PREDS]
        penalty = conservative_penalty(
            q_data=selected,
            q_random=fwd_out[f"q_{which}rand_repeat"],
            q_next=fwd_out[f"q_{which}next_repeat"],
            q_current=fwd_out[f"q_{which}curr_repeat"],
            logp_next=fwd_out["logps_next_repeat"],
            logp_current=fwd_out["logps_curr_repeat"],
            action_size=fwd_out["actions_curr_repeat"].shape[-1],
            temperature=config.temperature,
            weight=config.min_q_weight,
        )
        return functional.mse_loss(selected, targets) + penalty, penalty, (selected - targets).detach().abs()

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The state of SAC's learner, and the counts of updates."""
        return {**super().get_state(*args, **kwargs), "updates_by_module": dict(self.updates_by_module)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take the state of an equal learner."""
        super().set_state(state)
        self.updates_by_module.update(state.get("updates_by_module", {}))

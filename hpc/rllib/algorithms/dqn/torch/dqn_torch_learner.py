"""DQN's losses on batches of torch tensors."""

from __future__ import annotations

from typing import Any

import torch

from hpc.rllib.algorithms.dqn.dqn_learner import (
    ATOMS,
    QF_LOGITS,
    QF_LOSS_KEY,
    QF_MAX_KEY,
    QF_MEAN_KEY,
    QF_MIN_KEY,
    QF_NEXT_PREDS,
    QF_PREDS,
    QF_PROBS,
    QF_TARGET_NEXT_PREDS,
    QF_TARGET_NEXT_PROBS,
    TD_ERROR_MEAN_KEY,
    DQNLearner,
)
from hpc.rllib.core.columns import Columns
from hpc.rllib.core.learner.torch.adam import FastAdam
from hpc.rllib.core.learner.torch.torch_learner import TorchLearner
from hpc.rllib.math.losses import c51_loss, dqn_loss, masked_mean
from hpc.rllib.math.losses.common import masked_max, masked_min
from hpc.rllib.math.losses.dqn import pick
from hpc.rllib.utils.metrics import TD_ERROR_KEY


class DQNTorchLearner(DQNLearner, TorchLearner):
    """DQN with torch."""

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """One Adam with `adam_epsilon`."""
        config = config or self.config.get_config_for_module(module_id)
        params = self.get_parameters(self.module[module_id])
        self.register_optimizer(
            module_id=module_id,
            optimizer=FastAdam(params, eps=config.adam_epsilon),
            params=params,
            lr_or_lr_schedule=config.lr,
        )

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Any], fwd_out: dict[str, Any]
    ) -> torch.Tensor:
        """The loss of one train batch."""
        mask = batch.get(Columns.LOSS_MASK)
        if mask is not None and config.burn_in_len > 0:
            mask = mask.clone()
            mask[:, : config.burn_in_len] = False
        discounts = config.gamma ** batch["n_step"]
        chooses = fwd_out[QF_NEXT_PREDS] if config.double_q else fwd_out[QF_TARGET_NEXT_PREDS]
        if config.num_atoms > 1:
            loss = c51_loss(
                q_logits=fwd_out[QF_LOGITS][: len(discounts)],
                q_next=chooses,
                target_next_probs=fwd_out[QF_TARGET_NEXT_PROBS],
                actions=batch[Columns.ACTIONS],
                rewards=batch[Columns.REWARDS],
                terminateds=batch[Columns.TERMINATEDS],
                discounts=discounts,
                v_min=config.v_min,
                v_max=config.v_max,
                weights=batch.get("weights"),
                mask=mask,
            )
            total, td_error = loss
            selected = pick(fwd_out[QF_PREDS], batch[Columns.ACTIONS]).detach()
            self._log_distribution(module_id, fwd_out)
        else:
            total, td_error, selected = dqn_loss(
                q=fwd_out[QF_PREDS],
                q_target_next=fwd_out[QF_TARGET_NEXT_PREDS],
                q_next=chooses if config.double_q else None,
                actions=batch[Columns.ACTIONS],
                rewards=batch[Columns.REWARDS],
                terminateds=batch[Columns.TERMINATEDS],
                discounts=discounts,
                weights=batch.get("weights"),
                mask=mask,
                loss_fn=config.td_error_loss_fn,
            )
        errors = td_error if mask is None else td_error * mask
        self.metrics.log_value((module_id, TD_ERROR_KEY), errors, reduce="item_series")
        selected = selected.detach()
        stats = {
            QF_LOSS_KEY: total,
            QF_MEAN_KEY: masked_mean(selected, mask),
            QF_MAX_KEY: masked_max(selected, mask),
            QF_MIN_KEY: masked_min(selected, mask),
            TD_ERROR_MEAN_KEY: masked_mean(td_error, mask),
        }
        self.metrics.log_dict(stats, key=module_id, window=1)
        return total

    def _log_distribution(self, module_id: str, fwd_out: dict[str, Any]) -> None:
        """How far the distributions of returns of different actions are from each other."""
        with torch.no_grad():
            atoms, mean = fwd_out[ATOMS], fwd_out[QF_PROBS].flatten(0, -3).mean(0)
            apart = torch.diff(mean, dim=0).abs()
            stats = {
                ATOMS: atoms.mean(),
                "expectations_abs_diff": torch.diff((mean * atoms).sum(1)).mean().abs(),
                "dist_total_variation_dist": 0.5 * apart.sum(),
                "dist_max_abs_distance": apart.max(),
                "action_dist_mean_entropy": (mean * mean.clamp(min=1e-30).log()).sum(1).mean(),
            }
        self.metrics.log_dict(stats, key=module_id, window=1)

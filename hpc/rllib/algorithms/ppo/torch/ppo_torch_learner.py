"""PPO's loss on batches of torch tensors."""

from __future__ import annotations

from typing import Any

import torch

from hpc.rllib.algorithms.ppo.keys import (
    LEARNER_RESULTS_KL_KEY,
    LEARNER_RESULTS_VF_EXPLAINED_VAR_KEY,
    LEARNER_RESULTS_VF_LOSS_UNCLIPPED_KEY,
)
from hpc.rllib.algorithms.ppo.ppo_learner import PPOLearner
from hpc.rllib.core.columns import Columns
from hpc.rllib.core.learner.learner import ENTROPY_KEY, POLICY_LOSS_KEY, VF_LOSS_KEY
from hpc.rllib.core.learner.torch.torch_learner import TorchLearner
from hpc.rllib.math.losses import explained_variance, masked_mean, ppo_loss
from hpc.rllib.math.returns import MIN_STD


def standardized(advantages: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Advantages with mean 0 and standard deviation 1 over the valid rows."""
    centred = advantages - masked_mean(advantages, mask)
    return centred / masked_mean(centred**2, mask).sqrt().clamp(min=MIN_STD)


class PPOTorchLearner(PPOLearner, TorchLearner):
    """PPO with torch."""

    def postprocess_batch(self, module_id: str, batch: dict[str, Any], config: Any) -> dict[str, Any]:
        """Standardize the advantages of the whole train batch."""
        batch = super().postprocess_batch(module_id, batch, config)
        batch[Columns.ADVANTAGES] = standardized(batch[Columns.ADVANTAGES], batch.get(Columns.LOSS_MASK))
        return batch

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Any], fwd_out: dict[str, Any]
    ) -> torch.Tensor:
        """The loss of one minibatch."""
        module: Any = self.module[module_id].unwrapped()
        current = module.get_train_action_dist_cls().from_logits(fwd_out[Columns.ACTION_DIST_INPUTS])
        kl = None
        if config.use_kl_loss:
            kind = module.get_exploration_action_dist_cls()
            kl = kind.from_logits(batch[Columns.ACTION_DIST_INPUTS]).kl(current)
        values = targets = None
        if config.use_critic:
            values = module.compute_values(batch, embeddings=fwd_out.get(Columns.EMBEDDINGS))
            targets = batch[Columns.VALUE_TARGETS]
        mask = batch.get(Columns.LOSS_MASK)
        coeff = self.entropy_coeff(module_id)
        loss = ppo_loss(
            logp=current.logp(batch[Columns.ACTIONS]),
            old_logp=batch[Columns.ACTION_LOGP],
            advantages=batch[Columns.ADVANTAGES],
            entropy=current.entropy() if coeff or self.is_last_minibatch else None,
            values=values,
            value_targets=targets,
            kl=kl,
            mask=mask,
            clip_param=config.clip_param,
            vf_clip_param=config.vf_clip_param,
            vf_loss_coeff=config.vf_loss_coeff,
            entropy_coeff=coeff,
            kl_coeff=self.kl_coeff(module_id),
            stats=self.is_last_minibatch,
        )
        if not self.is_last_minibatch:
            # Each of these numbers is of the last minibatch: the ones before would be overwritten.
            return loss.total
        stats = {
            POLICY_LOSS_KEY: loss.policy,
            VF_LOSS_KEY: loss.vf,
            LEARNER_RESULTS_VF_LOSS_UNCLIPPED_KEY: loss.vf_unclipped,
            ENTROPY_KEY: loss.entropy,
            LEARNER_RESULTS_KL_KEY: loss.kl,
        }
        if values is not None and targets is not None:
            stats[LEARNER_RESULTS_VF_EXPLAINED_VAR_KEY] = explained_variance(targets, values.detach(), mask)
        self.metrics.log_dict(stats, key=module_id, window=1)
        return loss.total

"""MARWIL's loss on batches of torch tensors; with beta 0 it is that of behaviour cloning."""

from __future__ import annotations

from typing import Any

import torch

from hpc.rllib.algorithms.marwil.marwil_learner import LEARNER_RESULTS_MOVING_AVG_SQD_ADV_NORM_KEY, MARWILLearner
from hpc.rllib.algorithms.ppo.keys import LEARNER_RESULTS_VF_EXPLAINED_VAR_KEY
from hpc.rllib.core.columns import Columns
from hpc.rllib.core.learner.learner import POLICY_LOSS_KEY, VF_LOSS_KEY
from hpc.rllib.core.learner.torch.torch_learner import TorchLearner
from hpc.rllib.math.losses import bc_loss, explained_variance, marwil_loss


class MARWILTorchLearner(MARWILLearner, TorchLearner):
    """MARWIL with torch."""

    def set_state(self, state: dict[str, Any]) -> None:
        """Take the state of an equal learner."""
        super().set_state(state)
        for module_id, value in state.get("advantage_norms", {}).items():
            self.moving_avg_sqd_adv_norms_per_module[module_id] = torch.tensor(value, device=self._device)

    def _advantage_norm(self, module_id: str, config: Any) -> torch.Tensor:
        norms = self.moving_avg_sqd_adv_norms_per_module
        if module_id not in norms:
            norms[module_id] = torch.tensor(config.moving_average_sqd_adv_norm_start, device=self._device)
        found: torch.Tensor = norms[module_id]
        return found

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Any], fwd_out: dict[str, Any]
    ) -> torch.Tensor:
        """The loss of one train batch."""
        module: Any = self.module[module_id].unwrapped()
        mask = batch.get(Columns.LOSS_MASK)
        if mask is not None and config.burnin_len > 0:
            mask = mask.clone()
            mask[:, : config.burnin_len] = False
        inputs = fwd_out[Columns.ACTION_DIST_INPUTS]
        logp = module.get_train_action_dist_cls().from_logits(inputs).logp(batch[Columns.ACTIONS])
        bonus: torch.Tensor | float = 0.0
        if config.bc_logstd_coeff > 0.0:
            # The second half of a Gaussian's inputs are the logarithms of its standard deviations.
            bonus = config.bc_logstd_coeff * inputs.chunk(2, dim=-1)[1].mean(-1)
        if config.beta == 0.0:
            loss = bc_loss(logp + bonus, mask)
            self.metrics.log_value((module_id, POLICY_LOSS_KEY), loss, window=1)
            return loss
        values = module.compute_values(batch, embeddings=fwd_out.get(Columns.EMBEDDINGS))
        parts = marwil_loss(
            logp=logp,
            values=values,
            value_targets=batch[Columns.VALUE_TARGETS],
            norm=self._advantage_norm(module_id, config),
            beta=config.beta,
            norm_rate=config.moving_average_sqd_adv_norm_update_rate,
            vf_coeff=config.vf_coeff,
            bonus=bonus,
            mask=mask,
        )
        self.moving_avg_sqd_adv_norms_per_module[module_id] = parts.norm
        stats = {
            POLICY_LOSS_KEY: parts.policy,
            VF_LOSS_KEY: parts.vf,
            LEARNER_RESULTS_VF_EXPLAINED_VAR_KEY: explained_variance(batch[Columns.VALUE_TARGETS], values, mask),
            LEARNER_RESULTS_MOVING_AVG_SQD_ADV_NORM_KEY: parts.norm,
        }
        self.metrics.log_dict(stats, key=module_id, window=1)
        return parts.total

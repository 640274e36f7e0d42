"""APPO's loss on time-major torch tensors."""

from __future__ import annotations

from typing import Any

import torch

from hpc.rllib.algorithms.appo.appo_learner import APPOLearner
from hpc.rllib.algorithms.appo.keys import (
    LEARNER_RESULTS_CURR_KL_COEFF_KEY,
    LEARNER_RESULTS_KL_KEY,
    LEARNER_RESULTS_MEAN_IS_KEY,
    LEARNER_RESULTS_VAR_IS_KEY,
)
from hpc.rllib.algorithms.impala.torch.impala_torch_learner import IMPALATorchLearner, Steps
from hpc.rllib.core.columns import Columns
from hpc.rllib.core.learner.learner import ENTROPY_KEY, POLICY_LOSS_KEY, VF_LOSS_KEY
from hpc.rllib.core.rl_module.apis import TARGET_NETWORK_ACTION_DIST_INPUTS
from hpc.rllib.math.losses import masked_mean


class APPOTorchLearner(APPOLearner, IMPALATorchLearner):
    """APPO with torch."""

    def _target_logits(self, module_id: str, batch: dict[str, Any]) -> torch.Tensor:
        module: Any = self.module[module_id].unwrapped()
        with torch.no_grad():
            found = module.forward_target(batch)[TARGET_NETWORK_ACTION_DIST_INPUTS]
        return self._as_time(module_id, found)[:-1]

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Any], fwd_out: dict[str, Any]
    ) -> torch.Tensor:
        """The loss of one minibatch."""
        rows = self._time_major[module_id]
        steps = self._steps(module_id, batch, fwd_out)
        kind = self.module[module_id].unwrapped().get_train_action_dist_cls()
        policy, target = kind.from_logits(steps.logits), kind.from_logits(self._target_logits(module_id, batch))
        actions, behaviour_logp = rows[Columns.ACTIONS], rows[Columns.ACTION_LOGP]
        logp, target_logp = policy.logp(actions), target.logp(actions)
        found = self._vtrace(module_id, config, steps, target_logp)
        # How much likelier the policy that acted made the action than the target policy does, times how much likelier
        # the current one makes it than the one that acted.
        is_ratio = torch.clip(torch.exp(behaviour_logp - target_logp), 0.0, config.target_worker_clipping)
        ratio = is_ratio * torch.exp(logp - behaviour_logp)
        clipped = torch.clip(ratio, 1 - config.clip_param, 1 + config.clip_param)
        surrogate = torch.minimum(found.pg_advantages * ratio, found.pg_advantages * clipped)
        mask = rows[Columns.LOSS_MASK]
        pi_loss = -masked_mean(surrogate, mask)
        vf_loss = 0.5 * masked_mean((steps.values[:-1] - found.vs) ** 2, mask)
        entropy = masked_mean(policy.entropy(), mask)
        total = pi_loss + config.vf_loss_coeff * vf_loss - self.entropy_coeff(module_id) * entropy
        kl: Any = 0.0
        if config.use_kl_loss:
            kl = masked_mean(target.kl(policy), mask)
            total = total + self.kl_coeff(module_id) * kl
        self._log(
            module_id, steps, is_ratio, {POLICY_LOSS_KEY: pi_loss, VF_LOSS_KEY: vf_loss, ENTROPY_KEY: entropy}, kl
        )
        return total

    def _log(self, module_id: str, steps: Steps, is_ratio: torch.Tensor, stats: dict[str, Any], kl: Any) -> None:
        mean = torch.sum(is_ratio * steps.mask) / steps.size
        variance = torch.sum((is_ratio - mean) ** 2 * steps.mask) / steps.size
        self.metrics.log_dict(
            {
                **stats,
                LEARNER_RESULTS_KL_KEY: kl,
                LEARNER_RESULTS_CURR_KL_COEFF_KEY: self.kl_coeff(module_id),
                LEARNER_RESULTS_MEAN_IS_KEY: mean,
                LEARNER_RESULTS_VAR_IS_KEY: variance,
            },
            key=module_id,
            window=1,
        )

"""What a SAC learner keeps beside its modules: a temperature and a target entropy for each of them."""

from __future__ import annotations

import numpy as np

from hpc.rllib.algorithms.dqn.dqn_learner import DQNLearner

LOGPS_KEY = "logps"
QF_LOSS_KEY = "qf_loss"
QF_MEAN_KEY = "qf_mean"
QF_MAX_KEY = "qf_max"
QF_MIN_KEY = "qf_min"
QF_PREDS = "qf_preds"
QF_TWIN_LOSS_KEY = "qf_twin_loss"
QF_TWIN_PREDS = "qf_twin_preds"
TD_ERROR_MEAN_KEY = "td_error_mean"
CRITIC_TARGET = "critic_target"
ACTION_DIST_INPUTS_NEXT = "action_dist_inputs_next"
QF_TARGET_NEXT = "q_target_next"
ACTION_PROBS_NEXT = "action_probs_next"
ACTION_LOG_PROBS_NEXT = "action_log_probs_next"
ACTION_PROBS = "action_probs"
ACTION_LOG_PROBS = "action_log_probs"


class SACLearner(DQNLearner):
    """Temperatures in the form of their logarithm."""

    def target_entropy_of(self, module_id: str) -> float:
        """The entropy that the temperature of this module seeks."""
        target = self.config.get_config_for_module(module_id).target_entropy
        if target is None or target == "auto":
            return -float(np.prod(self.module[module_id].unwrapped().action_space.shape))
        return float(target)

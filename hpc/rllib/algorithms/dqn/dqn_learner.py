"""What learners with target networks share: the networks, and when they move."""

from __future__ import annotations

from typing import Any

from hpc.rllib.core.learner.learner import Learner
from hpc.rllib.core.learner.utils import update_target_network
from hpc.rllib.core.rl_module.apis import QNetAPI, TargetNetworkAPI
from hpc.rllib.utils.metrics import LAST_TARGET_UPDATE_TS, NUM_ENV_STEPS_SAMPLED_LIFETIME, NUM_TARGET_UPDATES

ATOMS = "atoms"
QF_LOSS_KEY = "qf_loss"
QF_LOGITS = "qf_logits"
QF_MEAN_KEY = "qf_mean"
QF_MAX_KEY = "qf_max"
QF_MIN_KEY = "qf_min"
QF_NEXT_PREDS = "qf_next_preds"
QF_TARGET_NEXT_PREDS = "qf_target_next_preds"
QF_TARGET_NEXT_PROBS = "qf_target_next_probs"
QF_PREDS = "qf_preds"
QF_PROBS = "qf_probs"
TD_ERROR_MEAN_KEY = "td_error_mean"


class DQNLearner(Learner):
    """A learner whose modules have target networks."""

    def build(self) -> None:
        """Build modules with target networks, and optimizers."""
        if self._is_built:
            return
        self.last_update_ts_by_mid: dict[str, int] = {}
        super().build()

    def after_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Move the target networks that are due."""
        super().after_gradient_based_update(timesteps=timesteps)
        now = timesteps.get(NUM_ENV_STEPS_SAMPLED_LIFETIME, 0)
        for module_id in list(self.module.keys()):
            module = self.module[module_id].unwrapped()
            config = self.config.get_config_for_module(module_id)
            since = now - self.last_update_ts_by_mid.get(module_id, 0)
            if since < config.target_network_update_freq or not isinstance(module, TargetNetworkAPI):
                continue
            for main_net, target_net in module.get_target_network_pairs():
                update_target_network(main_net=main_net, target_net=target_net, tau=config.tau)
            self.last_update_ts_by_mid[module_id] = now
            self.metrics.log_value((module_id, NUM_TARGET_UPDATES), 1, reduce="lifetime_sum")
            self.metrics.log_value((module_id, LAST_TARGET_UPDATE_TS), now, reduce="max")

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The state of every learner, and when target networks moved last."""
        return {**super().get_state(*args, **kwargs), "last_target_updates": dict(self.last_update_ts_by_mid)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take the state of an equal learner."""
        super().set_state(state)
        self.last_update_ts_by_mid.update(state.get("last_target_updates", {}))

    @classmethod
    def rl_module_required_apis(cls) -> list[type]:
        """Modules need Q values and target networks."""
        return [QNetAPI, TargetNetworkAPI]

"""What an APPO learner keeps beside its modules: target policies that follow, and coefficients of KL."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from hpc.rllib.algorithms.appo.keys import LEARNER_RESULTS_CURR_KL_COEFF_KEY, LEARNER_RESULTS_KL_KEY
from hpc.rllib.algorithms.impala.impala_learner import IMPALALearner
from hpc.rllib.core.learner.utils import update_target_network
from hpc.rllib.core.rl_module.apis import TargetNetworkAPI, ValueFunctionAPI
from hpc.rllib.utils.metrics import LAST_TARGET_UPDATE_TS, NUM_ENV_STEPS_TRAINED_LIFETIME, NUM_TARGET_UPDATES


class APPOLearner(IMPALALearner):
    """IMPALA's learner with target policies."""

    def build(self) -> None:
        """Builds modules, target policies and optimizers."""
        self._last_update_ts_by_mid: dict[str, int] = defaultdict(int)
        self.curr_kl_coeffs_per_module: dict[str, float] = {}
        super().build()

    def kl_coeff(self, module_id: str) -> float:
        """The coefficient of KL that holds now."""
        if module_id not in self.curr_kl_coeffs_per_module:
            self.curr_kl_coeffs_per_module[module_id] = float(self.config.get_config_for_module(module_id).kl_coeff)
        return self.curr_kl_coeffs_per_module[module_id]

    def remove_module(self, module_id: str, **kwargs: Any) -> Any:
        """Forgets the module's coefficient, too."""
        spec = super().remove_module(module_id, **kwargs)
        self.curr_kl_coeffs_per_module.pop(module_id, None)
        self._last_update_ts_by_mid.pop(module_id, None)
        return spec

    def after_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Moves target policies whose time has come, and the coefficients of KL."""
        super().after_gradient_based_update(timesteps=timesteps)
        now = timesteps.get(NUM_ENV_STEPS_TRAINED_LIFETIME, 0)
        for module_id in list(self.module.keys()):
            config = self.config.get_config_for_module(module_id)
            module = self.module[module_id].unwrapped()
            # The learner's state alone may have been taken up, by an algorithm that has trained for a shorter time.
            self._last_update_ts_by_mid[module_id] = min(self._last_update_ts_by_mid[module_id], now)
            if isinstance(module, TargetNetworkAPI) and now - self._last_update_ts_by_mid[module_id] >= steps_of_target(
                config
            ):
                self._move_target(module_id, module, config.tau, now)
            key = (module_id, LEARNER_RESULTS_KL_KEY)
            if config.use_kl_loss and key in self.metrics:
                self._update_module_kl_coeff(module_id=module_id, config=config, kl_loss=float(self.metrics.peek(key)))

    def _move_target(self, module_id: str, module: Any, tau: float, now: int) -> None:
        for main, target in module.get_target_network_pairs():
            update_target_network(main_net=main, target_net=target, tau=tau)
        self._last_update_ts_by_mid[module_id] = now
        self.metrics.log_value((module_id, NUM_TARGET_UPDATES), 1, reduce="lifetime_sum")
        self.metrics.log_value((module_id, LAST_TARGET_UPDATE_TS), now, reduce="max")

    def _update_module_kl_coeff(self, *, module_id: str, config: Any, kl_loss: float) -> None:
        """Raises the coefficient where the policy went further than twice the target, lowers it below half of that."""
        coeff = self.kl_coeff(module_id)
        if kl_loss > 2.0 * config.kl_target:
            coeff *= 1.5
        elif kl_loss < 0.5 * config.kl_target:
            coeff *= 0.5
        self.curr_kl_coeffs_per_module[module_id] = coeff
        self.metrics.log_value((module_id, LEARNER_RESULTS_CURR_KL_COEFF_KEY), coeff, window=1)

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The state of every learner, the coefficients of KL, and when target policies moved."""
        return {
            **super().get_state(*args, **kwargs),
            "kl_coeffs": dict(self.curr_kl_coeffs_per_module),
            "target_updates": dict(self._last_update_ts_by_mid),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Take the state of an equal learner."""
        super().set_state(state)
        self.curr_kl_coeffs_per_module.update(state.get("kl_coeffs", {}))
        self._last_update_ts_by_mid.update(state.get("target_updates", {}))

    @classmethod
    def rl_module_required_apis(cls) -> list[type]:
        """Modules need values, and a target policy."""
        return [TargetNetworkAPI, ValueFunctionAPI]


def steps_of_target(config: Any) -> float:
    """Steps that are trained between two moves of the target policy."""
    return float(
        config.target_network_update_freq
        * config.circular_buffer_num_batches
        * config.circular_buffer_iterations_per_batch
        * config.train_batch_size_per_learner
    )

"""What a PPO learner keeps beside its modules, and how it estimates advantages."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hpc.rllib.algorithms.ppo.keys import (
    LEARNER_RESULTS_CURR_ENTROPY_COEFF_KEY,
    LEARNER_RESULTS_CURR_KL_COEFF_KEY,
    LEARNER_RESULTS_KL_KEY,
)
from hpc.rllib.core.columns import Columns
from hpc.rllib.core.learner.learner import Learner
from hpc.rllib.core.rl_module.apis import ValueFunctionAPI
from hpc.rllib.env.fragment import Fragment
from hpc.rllib.math.returns import discounted_returns, gae
from hpc.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME
from hpc.rllib.utils.schedules.scheduler import Scheduler
from hpc.rllib.utils.trees import map_tree


class PPOLearner(Learner):
    """Advantages by GAE, and coefficients that follow schedules and targets."""

    def build(self) -> None:
        """Build modules and optimizers."""
        if self._is_built:
            return
        self.entropy_coeff_schedulers_per_module: dict[str, Scheduler] = {}
        self.curr_kl_coeffs_per_module: dict[str, float] = {}
        self._written: dict[str, set[str]] = {}
        super().build()

    def entropy_coeff(self, module_id: str) -> float:
        """The coefficient of entropy that holds now."""
        if module_id not in self.entropy_coeff_schedulers_per_module:
            value = self.config.get_config_for_module(module_id).entropy_coeff
            self.entropy_coeff_schedulers_per_module[module_id] = Scheduler(fixed_value_or_schedule=value)
        return float(self.entropy_coeff_schedulers_per_module[module_id].get_current_value())

    def kl_coeff(self, module_id: str) -> float:
        """The coefficient of KL that holds now."""
        if module_id not in self.curr_kl_coeffs_per_module:
            self.curr_kl_coeffs_per_module[module_id] = float(self.config.get_config_for_module(module_id).kl_coeff)
        return self.curr_kl_coeffs_per_module[module_id]

    def remove_module(self, module_id: str, **kwargs: Any) -> Any:
        """Forget the module's coefficients, too."""
        spec = super().remove_module(module_id, **kwargs)
        self.entropy_coeff_schedulers_per_module.pop(module_id, None)
        self.curr_kl_coeffs_per_module.pop(module_id, None)
        return spec

    def postprocess_fragment(self, module_id: str, fragment: Fragment, config: Any) -> dict[str, Any]:
        """Add advantages and targets of values."""
        columns = super().postprocess_fragment(module_id, fragment, config)
        written: dict[str, Any] = {}
        columns.update(advantages_of(self, module_id, fragment, config, written))
        self._written[module_id] = set(written)
        for name, column in written.items():
            columns[name] = map_tree(lambda leaf: leaf[: fragment.rows], column)
        columns.pop(Columns.NEXT_OBS, None)
        columns.pop(Columns.VF_PREDS, None)
        return columns

    def kept_columns(self, module_id: str) -> set[str]:
        """What values wrote into their batch, as observations without the mask that was among them."""
        return self._written.get(module_id, set())

    def after_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Move the coefficients of entropy and KL."""
        super().after_gradient_based_update(timesteps=timesteps)
        for module_id in list(self.module.keys()):
            config = self.config.get_config_for_module(module_id)
            self.entropy_coeff(module_id)
            scheduler = self.entropy_coeff_schedulers_per_module[module_id]
            value = scheduler.update(timestep=timesteps.get(NUM_ENV_STEPS_SAMPLED_LIFETIME, 0))
            self.metrics.log_value((module_id, LEARNER_RESULTS_CURR_ENTROPY_COEFF_KEY), float(value), window=1)
            key = (module_id, LEARNER_RESULTS_KL_KEY)
            if config.use_kl_loss and self.metrics.has_values(key):
                self._update_module_kl_coeff(module_id=module_id, config=config, kl_loss=float(self.metrics.peek(key)))

    def _update_module_kl_coeff(self, *, module_id: str, config: Any, kl_loss: float) -> None:
        """Raise the coefficient where the policy went further than twice the target, lower it below half of that."""
        if not math.isfinite(kl_loss):
            raise ValueError(
                f"KL of module {module_id!r} is {kl_loss}: an action has a probability near 0. Set kl_coeff=0.0, or a "
                "higher entropy_coeff, or a lower lr."
            )
        coeff = self.kl_coeff(module_id)
        if kl_loss > 2.0 * config.kl_target:
            coeff *= 1.5
        elif kl_loss < 0.5 * config.kl_target:
            coeff *= 0.5
        self.curr_kl_coeffs_per_module[module_id] = coeff
        self.metrics.log_value((module_id, LEARNER_RESULTS_CURR_KL_COEFF_KEY), coeff, window=1)

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The state of every learner, and the coefficients of KL and entropy."""
        entropy = {name: one.get_current_value() for name, one in self.entropy_coeff_schedulers_per_module.items()}
        coeffs = {"kl_coeffs": dict(self.curr_kl_coeffs_per_module), "entropy_coeffs": entropy}
        return {**super().get_state(*args, **kwargs), **coeffs}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take the state of an equal learner."""
        super().set_state(state)
        self.curr_kl_coeffs_per_module.update(state.get("kl_coeffs", {}))
        for module_id, value in state.get("entropy_coeffs", {}).items():
            if module_id in self.module:
                self.entropy_coeff(module_id)
                self.entropy_coeff_schedulers_per_module[module_id].go_on_from(value)

    @classmethod
    def rl_module_required_apis(cls) -> list[type]:
        """Modules need values."""
        return [ValueFunctionAPI]


def values_of(learner: Any, module_id: str, fragment: Fragment, written: dict[str, Any] | None = None) -> np.ndarray:
    """Values [T + 1, N] of a fragment's observations: those of the runner, or computed now where it has none.

    ``written``: see `values_of_fragment`. Nested observations are always valued now, since only a module of the user
    takes them, and it may write what its training reads.
    """
    found = fragment.get(Columns.VF_PREDS)
    nested = not isinstance(fragment[Columns.OBS], np.ndarray)
    if found is None or nested or len(found) != fragment.rows + 1:
        found = learner.values_of_fragment(module_id, fragment, written=written)
    return np.asarray(found, np.float32)


def advantages_of(
    learner: Any, module_id: str, fragment: Fragment, config: Any, written: dict[str, Any] | None = None
) -> dict[str, np.ndarray]:
    """Advantages and targets of values [T, N]; without a critic, both are discounted returns."""
    rewards, mask = fragment[Columns.REWARDS], fragment.loss_mask
    if not getattr(config, "use_critic", True):
        cut = fragment.dones | ~np.concatenate([mask[1:], np.zeros_like(mask[:1])])
        returns = discounted_returns(rewards * mask, cut, config.gamma)
        return {Columns.ADVANTAGES: returns, Columns.VALUE_TARGETS: returns}
    advantages, targets = gae(
        rewards,
        values_of(learner, module_id, fragment, written),
        fragment[Columns.TERMINATEDS],
        fragment[Columns.TRUNCATEDS],
        config.gamma,
        config.lambda_ if getattr(config, "use_gae", True) else 1.0,
        mask,
    )
    return {Columns.ADVANTAGES: advantages, Columns.VALUE_TARGETS: targets}

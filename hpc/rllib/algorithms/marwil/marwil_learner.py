"""What a MARWIL learner keeps beside its modules: running means of squared advantages."""

from __future__ import annotations

from typing import Any

from hpc.rllib.core.learner.learner import Learner
from hpc.rllib.core.rl_module.apis import ValueFunctionAPI

LEARNER_RESULTS_MOVING_AVG_SQD_ADV_NORM_KEY = "moving_avg_sqd_adv_norm"


class MARWILLearner(Learner):
    """A learner with one running mean for each module."""

    def build(self) -> None:
        """Build modules and optimizers."""
        if self._is_built:
            return
        self.moving_avg_sqd_adv_norms_per_module: dict[str, Any] = {}
        super().build()

    def remove_module(self, module_id: str, **kwargs: Any) -> Any:
        """Forget the module's mean, too."""
        spec = super().remove_module(module_id, **kwargs)
        self.moving_avg_sqd_adv_norms_per_module.pop(module_id, None)
        return spec

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The state of every learner, and the means."""
        norms = {key: float(value) for key, value in self.moving_avg_sqd_adv_norms_per_module.items()}
        return {**super().get_state(*args, **kwargs), "advantage_norms": norms}

    @classmethod
    def rl_module_required_apis(cls) -> list[type]:
        """Modules need values."""
        return [ValueFunctionAPI]

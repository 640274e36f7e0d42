"""Behaviour cloning: the most likely actions become those that were recorded."""

from __future__ import annotations

from typing import Any

from hpc.rllib.algorithms.marwil.marwil import MARWIL, MARWILConfig


class BCConfig(MARWILConfig):
    """Settings of behaviour cloning, with RLlib's defaults."""

    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class or BC)
        self.beta = 0.0
        self.materialize_data = False
        self.materialize_mapped_data = True

    def get_default_rl_module_spec(self) -> Any:
        """A network for the policy."""
        from hpc.rllib.algorithms.bc.torch.default_bc_torch_rl_module import DefaultBCTorchRLModule
        from hpc.rllib.core.rl_module.rl_module import RLModuleSpec

        return RLModuleSpec(module_class=DefaultBCTorchRLModule)

    def get_default_learner_class(self) -> Any:
        """MARWIL's learner, which needs no values here."""
        from hpc.rllib.algorithms.bc.torch.bc_torch_learner import BCTorchLearner

        return BCTorchLearner

    def validate(self) -> None:
        """Raise ValueError for settings that contradict each other."""
        super().validate()
        if self.beta != 0.0:
            self._value_error("For behavioral cloning, `beta` parameter must be 0.0!")


class BC(MARWIL):
    """Learns from recorded episodes; rewards do not matter."""

    needs_value_targets = False

    @classmethod
    def get_default_config(cls) -> BCConfig:
        """The defaults."""
        return BCConfig()

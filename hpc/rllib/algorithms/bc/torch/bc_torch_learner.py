"""The learner of behaviour cloning: MARWIL's with beta 0, for modules without values."""

from __future__ import annotations

from hpc.rllib.algorithms.marwil.torch.marwil_torch_learner import MARWILTorchLearner


class BCTorchLearner(MARWILTorchLearner):
    """Behaviour cloning with torch."""

    @classmethod
    def rl_module_required_apis(cls) -> list[type]:
        """Modules need nothing but a policy."""
        return []

"""MARWIL (Wang et al. 2018): imitation of recorded actions, weighed by their advantages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpc.rllib.algorithms.algorithm_config import AlgorithmConfig
from hpc.rllib.algorithms.config.given import NotProvided, section
from hpc.rllib.offline.learning import OfflineAlgorithm, check_iterations

if TYPE_CHECKING:
    from typing_extensions import Self


class MARWILConfig(AlgorithmConfig):
    """Settings of MARWIL, with RLlib's defaults."""

    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class or MARWIL)
        self._is_online = False
        self.beta = 1.0
        self.bc_logstd_coeff = 0.0
        self.moving_average_sqd_adv_norm_update_rate = 1e-8
        self.moving_average_sqd_adv_norm_start = 100.0
        self.vf_coeff = 1.0
        self.grad_clip = None
        self.input_ = "sampler"
        self.lr = 1e-4
        self.lambda_ = 1.0
        self.train_batch_size = 2000
        self.burnin_len = 0
        self.materialize_data = True
        self.materialize_mapped_data = False

    @section
    def training(
        self,
        *,
        beta: float = NotProvided,
        bc_logstd_coeff: float = NotProvided,
        moving_average_sqd_adv_norm_update_rate: float = NotProvided,
        moving_average_sqd_adv_norm_start: float = NotProvided,
        vf_coeff: float = NotProvided,
        burnin_len: int = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Set how MARWIL learns; other keywords are those of every algorithm.

        beta: how much advantages weigh; 0 is behaviour cloning. bc_logstd_coeff: a bonus for wide distributions.
        moving_average_sqd_adv_norm_start, moving_average_sqd_adv_norm_update_rate: the first mean of squared
        advantages, and how fast it moves. vf_coeff: weight of the error of values. burnin_len: first steps of
        sequences that only bring the state of a stateful module up to date.
        """
        given = {key: value for key, value in locals().items() if key != "kwargs"}
        super().training(**kwargs)
        return self._take(given)

    def validate(self) -> None:
        """Raise ValueError for settings that contradict each other."""
        super().validate()
        if self.beta < 0.0 or self.beta > 1.0:
            self._value_error("`beta` must be within 0.0 and 1.0!")
        check_iterations(self)
        longest = self.model_config.get("max_seq_len", 20)
        if self.burnin_len > 0 and self.burnin_len >= longest:
            self._value_error(
                f"`burnin_len` must be < `model.max_seq_len`! Got burnin_len={self.burnin_len}, "
                f"model.max_seq_len={longest}."
            )

    def get_default_rl_module_spec(self) -> Any:
        """A network for policy and values."""
        from hpc.rllib.algorithms.ppo.torch.default_ppo_torch_rl_module import DefaultPPOTorchRLModule
        from hpc.rllib.core.rl_module.rl_module import RLModuleSpec

        return RLModuleSpec(module_class=DefaultPPOTorchRLModule)

    def get_default_learner_class(self) -> Any:
        """The learner with MARWIL's loss."""
        from hpc.rllib.algorithms.marwil.torch.marwil_torch_learner import MARWILTorchLearner

        return MARWILTorchLearner

    @property
    def _model_config_auto_includes(self) -> dict[str, Any]:
        return super()._model_config_auto_includes | {"beta": self.beta, "vf_share_layers": False}


class MARWIL(OfflineAlgorithm):
    """Learns from recorded episodes."""

    #: Whether batches need targets of values.
    needs_value_targets = True

    @classmethod
    def get_default_config(cls) -> MARWILConfig:
        """The defaults."""
        return MARWILConfig()

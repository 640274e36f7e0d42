"""APPO (Luo et al. 2020, "IMPACT"): IMPALA's flow, PPO's clipped loss, and a target policy that moves slowly."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hpc.rllib.algorithms.appo.keys import (
    LEARNER_RESULTS_CURR_KL_COEFF_KEY as LEARNER_RESULTS_CURR_KL_COEFF_KEY,
)
from hpc.rllib.algorithms.appo.keys import LEARNER_RESULTS_KL_KEY as LEARNER_RESULTS_KL_KEY
from hpc.rllib.algorithms.appo.keys import LEARNER_RESULTS_MEAN_IS_KEY as LEARNER_RESULTS_MEAN_IS_KEY
from hpc.rllib.algorithms.appo.keys import LEARNER_RESULTS_VAR_IS_KEY as LEARNER_RESULTS_VAR_IS_KEY
from hpc.rllib.algorithms.config.given import NotProvided, section
from hpc.rllib.algorithms.impala.impala import IMPALA, IMPALAConfig

if TYPE_CHECKING:
    from typing_extensions import Self

OLD_ACTION_DIST_KEY = "old_action_dist"


class APPOConfig(IMPALAConfig):
    """Settings of APPO, with RLlib's defaults."""

    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class or APPO)
        self.use_gae = True
        self.lambda_ = 1.0
        self.clip_param = 0.4
        self.use_kl_loss = False
        self.kl_coeff = 1.0
        self.kl_target = 0.01
        self.target_worker_clipping = 2.0
        self.use_circular_buffer = True
        self.circular_buffer_num_batches = 8
        self.circular_buffer_iterations_per_batch = 2
        self.simple_queue_size = 32
        self.target_network_update_freq = 2
        self.tau = 1.0
        self.learner_queue_size = 16

    @section
    def training(
        self,
        *,
        use_gae: bool = NotProvided,
        lambda_: float = NotProvided,
        clip_param: float = NotProvided,
        use_kl_loss: bool = NotProvided,
        kl_coeff: float = NotProvided,
        kl_target: float = NotProvided,
        target_network_update_freq: float = NotProvided,
        tau: float = NotProvided,
        target_worker_clipping: float = NotProvided,
        use_circular_buffer: bool = NotProvided,
        circular_buffer_num_batches: int = NotProvided,
        circular_buffer_iterations_per_batch: int = NotProvided,
        simple_queue_size: int = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Set how APPO learns; other keywords are those of IMPALA and of every algorithm.

        lambda_: of V-trace. clip_param: how far the ratio of probabilities may go from 1. use_kl_loss, kl_coeff,
        kl_target: punish the distance from the target policy, by a factor that seeks the target.
        target_worker_clipping: bound of the ratio between the policy that acted and the target policy.
        circular_buffer_iterations_per_batch, circular_buffer_num_batches: updates with each batch, and how many
        batches are kept for that; no fragment is dropped before it was trained with. use_circular_buffer=False: one
        update with each. target_network_update_freq, tau: the target policy moves by the share tau after so many times
        the steps that all these updates train with. simple_queue_size and use_gae change nothing.
        """
        given = {key: value for key, value in locals().items() if key != "kwargs"}
        super().training(**kwargs)
        return self._take(given)

    def validate(self) -> None:
        """Raise ValueError for settings that contradict each other."""
        super().validate()
        if self.learner_queue_size != 16:
            self._value_error(
                "`learner_queue_size` is not APPO's: use `config.training(circular_buffer_num_batches=..)` for the "
                "number of batches that are kept, and `circular_buffer_iterations_per_batch` for the updates with each."
            )
        if self.circular_buffer_num_batches < 1 or self.circular_buffer_iterations_per_batch < 1:
            self._value_error(
                "`circular_buffer_num_batches` and `circular_buffer_iterations_per_batch` must be 1 or more."
            )

    def get_default_rl_module_spec(self) -> Any:
        """A network for policy and values, with a target policy."""
        from hpc.rllib.algorithms.appo.torch.default_appo_torch_rl_module import DefaultAPPOTorchRLModule
        from hpc.rllib.core.rl_module.rl_module import RLModuleSpec

        return RLModuleSpec(module_class=DefaultAPPOTorchRLModule)

    def get_default_learner_class(self) -> Any:
        """The learner with APPO's loss."""
        from hpc.rllib.algorithms.appo.torch.appo_torch_learner import APPOTorchLearner

        return APPOTorchLearner

    def stream_settings(self) -> Any:
        """How the flow of fragments is held."""
        settings = super().stream_settings()
        if not self.use_circular_buffer:
            return settings
        return replace(settings, uses=self.circular_buffer_iterations_per_batch, ring=self.circular_buffer_num_batches)

    @property
    def _model_config_auto_includes(self) -> dict[str, Any]:
        return super()._model_config_auto_includes | {"vf_share_layers": False}


class APPO(IMPALA):
    """IMPALA's flow with APPO's settings."""

    @classmethod
    def get_default_config(cls) -> APPOConfig:
        """The defaults."""
        return APPOConfig()

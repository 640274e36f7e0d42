"""CQL (Kumar et al. 2020): SAC on recorded steps, with a penalty on values of actions that the data lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpc.rllib.algorithms.config.given import NotProvided, section
from hpc.rllib.algorithms.sac.sac import SACConfig
from hpc.rllib.offline.learning import OfflineAlgorithm, check_iterations

if TYPE_CHECKING:
    from typing_extensions import Self


class CQLConfig(SACConfig):
    """Settings of CQL, with RLlib's defaults."""

    # RLlib's default, which its own check refuses when a CQL is built.
    _unused_lr = 3e-4

    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class or CQL)
        self.bc_iters = 20000
        self.temperature = 1.0
        self.num_actions = 10
        self.lagrangian = False
        self.lagrangian_thresh = 5.0
        self.min_q_weight = 5.0
        self.deterministic_backup = True
        self.lr = self._unused_lr
        self.actor_lr = 1e-4
        self.critic_lr = 1e-3
        self.alpha_lr = 1e-3
        self.min_sample_timesteps_per_iteration = 0
        self.min_train_timesteps_per_iteration = 100

    @section
    def training(
        self,
        *,
        bc_iters: int = NotProvided,
        temperature: float = NotProvided,
        num_actions: int = NotProvided,
        lagrangian: bool = NotProvided,
        lagrangian_thresh: float = NotProvided,
        min_q_weight: float = NotProvided,
        deterministic_backup: bool = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Set how CQL learns; other keywords are those of SAC.

        bc_iters: first updates in which the policy clones the data. temperature, num_actions, min_q_weight: softness of
        the penalty's maximum, how many actions of each kind are drawn for it, and its weight.
        deterministic_backup: targets of values leave entropy out.
        """
        given = {key: value for key, value in locals().items() if key != "kwargs"}
        super().training(**kwargs)
        return self._take(given)

    def validate(self) -> None:
        """Raise ValueError for settings that contradict each other."""
        super().validate()
        check_iterations(self)
        if self.lagrangian:
            self._value_error("`lagrangian=True` is not there: choose the weight by `min_q_weight`.")

    def get_default_rl_module_spec(self) -> Any:
        """SAC's networks with values of drawn actions."""
        from hpc.rllib.algorithms.cql.torch.default_cql_torch_rl_module import DefaultCQLTorchRLModule
        from hpc.rllib.core.rl_module.rl_module import RLModuleSpec

        return RLModuleSpec(module_class=DefaultCQLTorchRLModule)

    def get_default_learner_class(self) -> Any:
        """The learner with CQL's losses."""
        from hpc.rllib.algorithms.cql.torch.cql_torch_learner import CQLTorchLearner

        return CQLTorchLearner

    @property
    def _model_config_auto_includes(self) -> dict[str, Any]:
        return super()._model_config_auto_includes | {"num_actions": self.num_actions}


class CQL(OfflineAlgorithm):
    """Learns from recorded steps."""

    @classmethod
    def get_default_config(cls) -> CQLConfig:
        """The defaults."""
        return CQLConfig()

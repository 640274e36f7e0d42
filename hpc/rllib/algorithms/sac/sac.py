"""SAC (Haarnoja et al. 2018) for continuous and discrete actions, with a temperature that seeks its target entropy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpc.rllib.algorithms.algorithm_config import AlgorithmConfig
from hpc.rllib.algorithms.config.given import NotProvided, merged, section
from hpc.rllib.algorithms.dqn.replaying import ReplayingAlgorithm, check_buffer, check_n_step, steps_of

if TYPE_CHECKING:
    from typing_extensions import Self


class SACConfig(AlgorithmConfig):
    """Settings of SAC, with RLlib's defaults."""

    #: The value of `lr` that nobody has set: each part has a learning rate of its own.
    _unused_lr: float | None = None

    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class or SAC)
        self.twin_q = True
        self.clip_actions = False
        self.tau = 5e-3
        self.initial_alpha = 1.0
        self.target_entropy: Any = "auto"
        self.n_step: int | tuple[int, int] = 1
        self.replay_buffer_config: dict[str, Any] = {
            "type": "PrioritizedEpisodeReplayBuffer",
            "capacity": int(1e6),
            "alpha": 0.6,
            "beta": 0.4,
        }
        self.store_buffer_in_checkpoints = False
        self.training_intensity: float | None = None
        self.actor_lr: Any = 3e-5
        self.critic_lr: Any = 3e-4
        self.alpha_lr: Any = 3e-4
        self.lr: Any = None
        self.grad_clip = None
        self.target_network_update_freq = 0
        self.rollout_fragment_length = "auto"
        self.train_batch_size_per_learner = 256
        self.train_batch_size = 256
        self.num_steps_sampled_before_learning_starts = 1500
        self.min_time_s_per_iteration = 1
        self.min_sample_timesteps_per_iteration = 100

    @section
    def training(
        self,
        *,
        twin_q: bool = NotProvided,
        tau: float = NotProvided,
        initial_alpha: float = NotProvided,
        target_entropy: Any = NotProvided,
        n_step: Any = NotProvided,
        store_buffer_in_checkpoints: bool = NotProvided,
        replay_buffer_config: dict[str, Any] = NotProvided,
        training_intensity: float | None = NotProvided,
        clip_actions: bool = NotProvided,
        actor_lr: Any = NotProvided,
        critic_lr: Any = NotProvided,
        alpha_lr: Any = NotProvided,
        target_network_update_freq: int = NotProvided,
        num_steps_sampled_before_learning_starts: int = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Set how SAC learns; other keywords are those of every algorithm.

        twin_q: two critics, of which the smaller value counts. tau, target_network_update_freq: how far target networks
        move, and after how many sampled steps. initial_alpha, target_entropy: the first temperature, and the entropy
        that it seeks ("auto": minus the number of actions). actor_lr, critic_lr, alpha_lr: learning rates, or
        schedules. n_step, replay_buffer_config, training_intensity: as DQN has them.
        """
        given = {key: value for key, value in locals().items() if key != "kwargs"}
        super().training(**kwargs)
        if replay_buffer_config is not NotProvided:
            other = "type" in replay_buffer_config and replay_buffer_config["type"] != self.replay_buffer_config["type"]
            old = {} if other else dict(self.replay_buffer_config)
            given["replay_buffer_config"] = merged(old, replay_buffer_config)
        return self._take(given)

    def validate(self) -> None:
        """Raise ValueError for settings that contradict each other."""
        super().validate()
        check_n_step(self)
        if self.grad_clip is not None and self.grad_clip <= 0.0:
            self._value_error("`grad_clip` value must be > 0.0!")
        if not self.is_offline:
            check_buffer(self)
        if self.lr != self._unused_lr and self.lr is not None:
            self._value_error(
                "Basic learning rate parameter `lr` is not `None`. For SAC use the specific learning rate parameters "
                "`actor_lr`, `critic_lr` and `alpha_lr`, for the actor, critic, and the hyperparameter `alpha`, "
                "respectively and set `config.lr` to None."
            )

    def get_rollout_fragment_length(self, worker_index: int = 0) -> int:
        """Rows of one sample; "auto": as many as a transition has steps."""
        if self.rollout_fragment_length == "auto":
            return steps_of(self.n_step)
        return int(self.rollout_fragment_length)

    def get_default_rl_module_spec(self) -> Any:
        """Networks for a policy and one or two critics."""
        from hpc.rllib.algorithms.sac.torch.default_sac_torch_rl_module import DefaultSACTorchRLModule
        from hpc.rllib.core.rl_module.rl_module import RLModuleSpec

        return RLModuleSpec(module_class=DefaultSACTorchRLModule)

    def get_default_learner_class(self) -> Any:
        """The learner with SAC's losses."""
        from hpc.rllib.algorithms.sac.torch.sac_torch_learner import SACTorchLearner

        return SACTorchLearner

    @property
    def _model_config_auto_includes(self) -> dict[str, Any]:
        return super()._model_config_auto_includes | {"twin_q": self.twin_q}


class SAC(ReplayingAlgorithm):
    """Alternates between sampling into the buffer and learning from it."""

    @classmethod
    def get_default_config(cls) -> SACConfig:
        """The defaults."""
        return SACConfig()

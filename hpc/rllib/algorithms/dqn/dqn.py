"""DQN with the parts of Rainbow: double, dueling, n-step, prioritized, distributional and noisy Q learning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpc.rllib.algorithms.algorithm_config import AlgorithmConfig
from hpc.rllib.algorithms.config.given import NotProvided, merged, section
from hpc.rllib.algorithms.dqn.replaying import ReplayingAlgorithm, check_buffer, check_n_step, steps_of

if TYPE_CHECKING:
    from typing_extensions import Self


class DQNConfig(AlgorithmConfig):
    """Settings of DQN, with RLlib's defaults."""

    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class or DQN)
        self.rollout_fragment_length = "auto"
        self.epsilon: Any = [(0, 1.0), (10000, 0.05)]
        self.grad_clip = 40.0
        self.grad_clip_by = "global_norm"
        self.lr = 5e-4
        self.train_batch_size = 32
        self.evaluation(evaluation_config=AlgorithmConfig.overrides(explore=False))
        self.min_time_s_per_iteration = None
        self.min_sample_timesteps_per_iteration = 1000
        self.target_network_update_freq = 500
        self.num_steps_sampled_before_learning_starts = 1000
        self.store_buffer_in_checkpoints = False
        self.adam_epsilon = 1e-8
        self.tau = 1.0
        self.num_atoms = 1
        self.v_min = -10.0
        self.v_max = 10.0
        self.noisy = False
        self.sigma0 = 0.5
        self.dueling = True
        self.hiddens: list[int] = [256]
        self.double_q = True
        self.n_step: int | tuple[int, int] = 1
        self.training_intensity: float | None = None
        self.td_error_loss_fn = "huber"
        self.categorical_distribution_temperature = 1.0
        self.burn_in_len = 0
        self.replay_buffer_config: dict[str, Any] = {
            "type": "PrioritizedEpisodeReplayBuffer",
            "capacity": 50000,
            "alpha": 0.6,
            "beta": 0.4,
        }

    @section
    def training(
        self,
        *,
        target_network_update_freq: int = NotProvided,
        replay_buffer_config: dict[str, Any] = NotProvided,
        store_buffer_in_checkpoints: bool = NotProvided,
        epsilon: Any = NotProvided,
        adam_epsilon: float = NotProvided,
        num_steps_sampled_before_learning_starts: int = NotProvided,
        tau: float = NotProvided,
        num_atoms: int = NotProvided,
        v_min: float = NotProvided,
        v_max: float = NotProvided,
        noisy: bool = NotProvided,
        sigma0: float = NotProvided,
        dueling: bool = NotProvided,
        hiddens: list[int] = NotProvided,
        double_q: bool = NotProvided,
        n_step: Any = NotProvided,
        training_intensity: float | None = NotProvided,
        td_error_loss_fn: str = NotProvided,
        categorical_distribution_temperature: float = NotProvided,
        burn_in_len: int = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Set how DQN learns; other keywords are those of every algorithm.

        target_network_update_freq, tau: every how many sampled steps the target network moves, and how far.
        replay_buffer_config: type, capacity, alpha, beta. epsilon: share of random actions, or a schedule by steps.
        num_steps_sampled_before_learning_starts: steps in the buffer before the first update.
        num_atoms, v_min, v_max: above 1, returns have a distribution on that many atoms between these values.
        noisy, sigma0: noise in weights as exploration. hiddens: layers of the heads (default: those of the model).
        n_step: steps of a transition; a pair draws the number for each item, both ends included.
        training_intensity: replayed steps for each sampled one. td_error_loss_fn: "huber" or "mse".
        burn_in_len: first steps of sequences that only bring the state of a stateful module up to date.
        """
        given = {key: value for key, value in locals().items() if key != "kwargs"}
        super().training(**kwargs)
        if replay_buffer_config is not NotProvided:
            given["replay_buffer_config"] = _merged_buffer(self.replay_buffer_config, replay_buffer_config)
        return self._take(given)

    def validate(self) -> None:
        """Raise ValueError for settings that contradict each other."""
        super().validate()
        if self.td_error_loss_fn not in ("huber", "mse"):
            self._value_error("`td_error_loss_fn` must be 'huber' or 'mse'!")
        if self.categorical_distribution_temperature != 1.0:
            self._value_error(
                "`categorical_distribution_temperature` changes nothing: DQN takes the best action. Use `epsilon`."
            )
        check_n_step(self)
        longest = self.model_config.get("max_seq_len", 0)
        if 0 < longest <= self.burn_in_len:
            self._value_error(
                f"`burn_in_len`={self.burn_in_len} must be smaller than `max_seq_len`={longest} of the model."
            )
        check_buffer(self)

    def get_rollout_fragment_length(self, worker_index: int = 0) -> int:
        """Rows of one sample; "auto": as many as a transition has steps."""
        if self.rollout_fragment_length == "auto":
            return steps_of(self.n_step)
        return int(self.rollout_fragment_length)

    def get_default_rl_module_spec(self) -> Any:
        """A network for Q values."""
        from hpc.rllib.algorithms.dqn.torch.default_dqn_torch_rl_module import DefaultDQNTorchRLModule
        from hpc.rllib.core.rl_module.rl_module import RLModuleSpec

        return RLModuleSpec(module_class=DefaultDQNTorchRLModule, model_config=self.model_config)

    def get_default_learner_class(self) -> Any:
        """The learner with DQN's loss."""
        from hpc.rllib.algorithms.dqn.torch.dqn_torch_learner import DQNTorchLearner

        return DQNTorchLearner

    @property
    def _model_config_auto_includes(self) -> dict[str, Any]:
        added = {
            "double_q": self.double_q,
            "dueling": self.dueling,
            "epsilon": self.epsilon,
            "num_atoms": self.num_atoms,
            "noisy": self.noisy,
            "std_init": self.sigma0,
            "v_max": self.v_max,
            "v_min": self.v_min,
        }
        if self.hiddens != [256]:
            added["head_fcnet_hiddens"] = list(self.hiddens)
        return super()._model_config_auto_includes | added


def _merged_buffer(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The new settings over the old ones; another type of buffer has none of the old ones."""
    if "type" in new and new["type"] != old.get("type"):
        return dict(new)
    return merged(dict(old), new)


class DQN(ReplayingAlgorithm):
    """Alternates between sampling into the buffer and learning from it."""

    @classmethod
    def get_default_config(cls) -> DQNConfig:
        """The defaults."""
        return DQNConfig()

"""PPO (Schulman et al. 2017): synchronous sampling, then several epochs of clipped updates on the sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpc.rllib.algorithms.algorithm import Algorithm
from hpc.rllib.algorithms.algorithm_config import AlgorithmConfig
from hpc.rllib.algorithms.config.given import NotProvided, section
from hpc.rllib.algorithms.ppo.keys import (
    LEARNER_RESULTS_CURR_ENTROPY_COEFF_KEY,
    LEARNER_RESULTS_CURR_KL_COEFF_KEY,
    LEARNER_RESULTS_KL_KEY,
    LEARNER_RESULTS_VF_EXPLAINED_VAR_KEY,
    LEARNER_RESULTS_VF_LOSS_UNCLIPPED_KEY,
)
from hpc.rllib.core import ALL_MODULES
from hpc.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    ENV_RUNNER_SAMPLING_TIMER,
    LEARNER_UPDATE_TIMER,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    SYNCH_WORKER_WEIGHTS_TIMER,
    TIMERS,
)
from hpc.rllib.utils.schedules.scheduler import Scheduler

if TYPE_CHECKING:
    from typing_extensions import Self


class PPOConfig(AlgorithmConfig):
    """Settings of PPO, with RLlib's defaults."""

    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class or PPO)
        self.lr = 5e-5
        self.rollout_fragment_length = "auto"
        self.train_batch_size = 4000
        self.use_critic = True
        self.use_gae = True
        self.num_epochs = 30
        self.minibatch_size = 128
        self.shuffle_batch_per_epoch = True
        self.lambda_ = 1.0
        self.use_kl_loss = True
        self.kl_coeff = 0.2
        self.kl_target = 0.01
        self.vf_loss_coeff = 1.0
        self.entropy_coeff: Any = 0.0
        self.clip_param = 0.3
        self.vf_clip_param = 10.0
        self.grad_clip = None
        self.num_env_runners = 2

    @section
    def training(
        self,
        *,
        use_critic: bool = NotProvided,
        use_gae: bool = NotProvided,
        lambda_: float = NotProvided,
        use_kl_loss: bool = NotProvided,
        kl_coeff: float = NotProvided,
        kl_target: float = NotProvided,
        vf_loss_coeff: float = NotProvided,
        entropy_coeff: Any = NotProvided,
        clip_param: float = NotProvided,
        vf_clip_param: float = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Set how PPO learns; other keywords are those of every algorithm.

        use_critic: subtract the value function from returns. use_gae, lambda_: estimate advantages by GAE. use_kl_loss,
        kl_coeff, kl_target: punish the distance from the policy that acted, by a factor that seeks the target.
        vf_loss_coeff, vf_clip_param: weight and limit of the squared error of values. entropy_coeff: a number, or a
        schedule [[step, value], ..]. clip_param: how far the ratio of probabilities may go from 1.
        """
        given = {key: value for key, value in locals().items() if key != "kwargs"}
        super().training(**kwargs)
        return self._take(given)

    def get_default_rl_module_spec(self) -> Any:
        """A network for policy and values."""
        from hpc.rllib.algorithms.ppo.torch.default_ppo_torch_rl_module import DefaultPPOTorchRLModule
        from hpc.rllib.core.rl_module.rl_module import RLModuleSpec

        return RLModuleSpec(module_class=DefaultPPOTorchRLModule)

    def get_default_learner_class(self) -> Any:
        """The learner with PPO's loss."""
        from hpc.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner

        return PPOTorchLearner

    def validate(self) -> None:
        """Raise ValueError for settings that contradict each other."""
        super().validate()
        self.validate_train_batch_size_vs_rollout_fragment_length()
        batch = self.train_batch_size_per_learner
        if isinstance(self.minibatch_size, int) and isinstance(batch, int) and self.minibatch_size > batch:
            self._value_error(
                f"`minibatch_size` ({self.minibatch_size}) must be <= `train_batch_size_per_learner` ({batch}): PPO "
                f"splits the train batch into pieces of {self.minibatch_size} rows, {self.num_epochs} times."
            )
        if not self.in_evaluation and self.batch_mode == "truncate_episodes" and not self.use_gae:
            self._value_error(
                "Truncated episodes need a value function for what comes after the cut: set use_gae=True, or "
                'batch_mode="complete_episodes".'
            )
        Scheduler.validate(
            fixed_value_or_schedule=self.entropy_coeff,
            setting_name="entropy_coeff",
            description="entropy coefficient",
        )
        if isinstance(self.entropy_coeff, float) and self.entropy_coeff < 0.0:
            self._value_error("`entropy_coeff` must be >= 0.0")

    @property
    def _model_config_auto_includes(self) -> dict[str, Any]:
        return super()._model_config_auto_includes | {"vf_share_layers": False}


class PPO(Algorithm):
    """Samples with the newest weights, learns from the sample, sends the weights."""

    @classmethod
    def get_default_config(cls) -> PPOConfig:
        """The defaults."""
        return PPOConfig()

    def training_step(self) -> None:
        """One sample of `total_train_batch_size` steps, and the epochs on it."""
        config = self.config
        with self.metrics.log_time((TIMERS, ENV_RUNNER_SAMPLING_TIMER)):
            samples = self.env_runner_group.collect(steps=config.total_train_batch_size, count_by=config.count_steps_by)
            self.log_samples(samples)
        if not samples:
            return
        with self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
            results = self.learner_group.update(
                samples=samples,
                timesteps={
                    NUM_ENV_STEPS_SAMPLED_LIFETIME: self.metrics.peek(
                        (ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME), default=0
                    )
                },
                num_epochs=config.num_epochs,
                minibatch_size=config.minibatch_size,
                shuffle_batch_per_epoch=config.shuffle_batch_per_epoch,
            )
            self.log_learner_results(results)
        with self.metrics.log_time((TIMERS, SYNCH_WORKER_WEIGHTS_TIMER)):
            updated = {module_id for result in results for module_id in result} - {ALL_MODULES}
            self.env_runner_group.sync_weights(
                from_worker_or_learner_group=self.learner_group, policies=sorted(updated), inference_only=True
            )


__all__ = [
    "LEARNER_RESULTS_CURR_ENTROPY_COEFF_KEY",
    "LEARNER_RESULTS_CURR_KL_COEFF_KEY",
    "LEARNER_RESULTS_KL_KEY",
    "LEARNER_RESULTS_VF_EXPLAINED_VAR_KEY",
    "LEARNER_RESULTS_VF_LOSS_UNCLIPPED_KEY",
    "PPO",
    "PPOConfig",
]

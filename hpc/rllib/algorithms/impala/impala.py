"""IMPALA (Espeholt et al. 2018): settings, and a training step that waits for neither runners nor learners."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpc.rllib.algorithms.algorithm import Algorithm
from hpc.rllib.algorithms.algorithm_config import AlgorithmConfig
from hpc.rllib.algorithms.config.given import NotProvided, section
from hpc.rllib.algorithms.impala.keys import (
    LEARNER_RESULTS_CURR_ENTROPY_COEFF_KEY as LEARNER_RESULTS_CURR_ENTROPY_COEFF_KEY,
)
from hpc.rllib.utils.metrics import (
    ENV_RUNNER_SAMPLING_TIMER,
    LEARNER_GROUP,
    LEARNER_UPDATE_TIMER,
    NUM_ENV_STEPS_TRAINED_LIFETIME,
    SYNCH_WORKER_WEIGHTS_TIMER,
    TIMERS,
)
from hpc.rllib.utils.schedules.scheduler import Scheduler

if TYPE_CHECKING:
    from typing_extensions import Self

#: Updates that a training step waits for, and how long it waits for them.
UPDATES, WAIT_S = 1, 1.0
#: Updates that learners have at a time, the one they work on counted.
QUEUE = 2
FLOW = "flow"


class IMPALAConfig(AlgorithmConfig):
    """Settings of IMPALA, with RLlib's defaults."""

    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class or IMPALA)
        self.vtrace = True
        self.vtrace_clip_rho_threshold: float | None = 1.0
        self.vtrace_clip_pg_rho_threshold: float | None = 1.0
        self.learner_queue_size = 3
        self.timeout_s_sampler_manager = 0.0
        self.timeout_s_aggregator_manager = 0.0
        self.broadcast_interval = 1
        self.num_gpu_loader_threads = 8
        self.grad_clip = 40.0
        self.grad_clip_by = "global_norm"
        self.vf_loss_coeff = 0.5
        self.entropy_coeff: Any = 0.01
        self.num_learners = 1
        self.num_aggregator_actors_per_learner = 0
        self.rollout_fragment_length = 50
        self.train_batch_size = 500
        self.num_env_runners = 2
        self.lr = 0.0005
        self.min_time_s_per_iteration = 10
        self._dont_auto_sync_env_runner_states = True
        self.use_env_runner_state_server = True
        self._env_runners_only = False
        self._skip_learners = False

    @section
    def training(
        self,
        *,
        vtrace: bool = NotProvided,
        vtrace_clip_rho_threshold: float | None = NotProvided,
        vtrace_clip_pg_rho_threshold: float | None = NotProvided,
        num_gpu_loader_threads: int = NotProvided,
        learner_queue_size: int = NotProvided,
        timeout_s_sampler_manager: float = NotProvided,
        timeout_s_aggregator_manager: float = NotProvided,
        broadcast_interval: int = NotProvided,
        vf_loss_coeff: float = NotProvided,
        entropy_coeff: Any = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Set how IMPALA learns; other keywords are those of every algorithm.

        vtrace: always True. vtrace_clip_rho_threshold, vtrace_clip_pg_rho_threshold: bounds of importance weights, in
        the targets of values and in the policy's gradient; None: no bound. broadcast_interval: weights go to runners
        after so many updates. learner_queue_size: most updates that learners may have at a time. vf_loss_coeff: weight
        of the loss of values. entropy_coeff: a number, or a schedule [[step, value], ..].

        num_gpu_loader_threads, timeout_s_sampler_manager and timeout_s_aggregator_manager change nothing: the next
        batch is made while the last one is trained with, and answers are waited for without polling.
        """
        given = {key: value for key, value in locals().items() if key != "kwargs"}
        super().training(**kwargs)
        return self._take(given)

    @section
    def debugging(
        self, *, _env_runners_only: bool = NotProvided, _skip_learners: bool = NotProvided, **kwargs: Any
    ) -> Self:
        """Set what helps to find out. _env_runners_only, _skip_learners: sample, and learn nothing."""
        given = {key: value for key, value in locals().items() if key != "kwargs"}
        super().debugging(**kwargs)
        return self._take(given)

    def validate(self) -> None:
        """Raise ValueError for settings that contradict each other."""
        super().validate()
        if not self.vtrace:
            self._value_error(
                "IMPALA and APPO do NOT support vtrace=False anymore! Set `config.training(vtrace=True)`."
            )
        if self.broadcast_interval < 1 or self.learner_queue_size < 1:
            self._value_error("`broadcast_interval` and `learner_queue_size` must be 1 or more.")
        Scheduler.validate(
            fixed_value_or_schedule=self.entropy_coeff,
            setting_name="entropy_coeff",
            description="entropy coefficient",
        )
        if (
            self.minibatch_size is not None
            and isinstance(self.rollout_fragment_length, int)
            and not (
                self.minibatch_size % self.rollout_fragment_length == 0
                and self.minibatch_size <= self.total_train_batch_size
            )
        ):
            self._value_error(
                f"`minibatch_size` ({self.minibatch_size}) must either be None or a multiple of "
                f"`rollout_fragment_length` ({self.rollout_fragment_length}) while at the same time smaller than or "
                f"equal to `total_train_batch_size` ({self.total_train_batch_size})!"
            )

    def get_default_rl_module_spec(self) -> Any:
        """A network for policy and values."""
        from hpc.rllib.algorithms.ppo.torch.default_ppo_torch_rl_module import DefaultPPOTorchRLModule
        from hpc.rllib.core.rl_module.rl_module import RLModuleSpec

        return RLModuleSpec(module_class=DefaultPPOTorchRLModule)

    def get_default_learner_class(self) -> Any:
        """The learner with IMPALA's loss."""
        from hpc.rllib.algorithms.impala.torch.impala_torch_learner import IMPALATorchLearner

        return IMPALATorchLearner

    def stream_settings(self) -> Any:
        """How the flow of fragments is held."""
        from hpc.rllib.flow.stream import StreamSettings

        return StreamSettings(
            batch_steps=self.total_train_batch_size,
            in_flight=self.max_requests_in_flight_per_env_runner,
            queue=min(QUEUE, self.learner_queue_size, self.max_requests_in_flight_per_learner),
            push_lag=1,
            broadcast_interval=self.broadcast_interval,
        )


class IMPALA(Algorithm):
    """Runners sample without a pause, learners learn without a pause; fragments go to them by reference.

    Results have under "flow" what became of fragments, and how many versions old weights were (``policy_lag_mean``)."""

    @classmethod
    def get_default_config(cls) -> IMPALAConfig:
        """The defaults."""
        return IMPALAConfig()

    def setup(self, config: Any) -> None:
        """Make the driver of the flow beside all the rest."""
        super().setup(config)
        self._driver: Any = None
        self._steps_trained = 0
        if self.env_runner_group is not None and self.env_runner_group.remote is not None:
            from hpc.rllib.flow.driving import StreamDriver

            amount = {"rows": self.config.get_rollout_fragment_length()}
            if self.config.batch_mode == "complete_episodes":
                amount = {"episodes": self.config.num_envs_per_env_runner}
            settings = self.config.stream_settings()
            self._driver = StreamDriver(self.env_runner_group, self.learner_group, settings, self._keywords, amount)

    @property
    def _trained(self) -> int:
        """Steps that were trained with, those before the checkpoint that was taken up counted."""
        return self._steps_trained + (self._driver.stream.tally.steps_trained if self._driver is not None else 0)

    def _keywords(self) -> dict[str, Any]:
        """What `Learner.update` gets beside the data."""
        return {
            "timesteps": {**self.timesteps(), NUM_ENV_STEPS_TRAINED_LIFETIME: self._trained},
            "num_epochs": self.config.num_epochs,
            "minibatch_size": self.config.minibatch_size,
            "shuffle_batch_per_epoch": self.config.shuffle_batch_per_epoch,
        }

    def training_step(self) -> None:
        """Go on until the next update is done."""
        if self._driver is None or self.config._env_runners_only or self.config._skip_learners:
            self._step_in_turns()
            return
        with self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
            progress = self._driver.advance(UPDATES, WAIT_S)
        self.log_samples(progress.samples)
        if progress.results:
            self.log_learner_results(progress.results)
        self._sync_connectors()
        self.metrics.log_dict(self._driver.report(), key=FLOW, window=1)
        self.metrics.log_dict(self.learner_group.get_stats(), key=LEARNER_GROUP, window=1)

    def _step_in_turns(self) -> None:
        """Without remote runners: sample, learn, in turns."""
        config = self.config
        steps = config.total_train_batch_size
        with self.metrics.log_time((TIMERS, ENV_RUNNER_SAMPLING_TIMER)):
            samples = self.env_runner_group.collect(steps=steps, rows=config.get_rollout_fragment_length())
            self.log_samples(samples)
        if config._env_runners_only or config._skip_learners:
            return
        with self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
            results = self.learner_group.update(samples=samples, **self._keywords())
            self._steps_trained += sum(sample.env_steps for sample in samples)
            self.log_learner_results(results)
        with self.metrics.log_time((TIMERS, SYNCH_WORKER_WEIGHTS_TIMER)):
            self.env_runner_group.sync_weights(from_worker_or_learner_group=self.learner_group, inference_only=True)

    def _sync_connectors(self) -> None:
        """Bring the states of users' connectors together, where there are any, when all runners have told theirs."""
        config, group = self.config, self.env_runner_group
        if config._env_to_module_connector is None and config._module_to_env_connector is None:
            return
        from hpc.rllib.env.env_runner_group import CONNECTORS

        kwargs = {"components": list(CONNECTORS)}
        group.foreach_env_runner_async("get_state", "connectors", kwargs=kwargs)
        found = group.fetch_ready_async_reqs(tags="connectors")
        self._connector_states = {**getattr(self, "_connector_states", {}), **dict(found)}
        if set(self._connector_states) >= set(group.healthy_env_runner_ids()):
            states = list(self._connector_states.values())
            self._connector_states = {}
            group.sync_env_runner_states(config=config, connector_states=states, env_steps_sampled=self.steps_sampled)

    def settle(self) -> None:
        """Wait for updates that are under way: learners keep still until the next training step."""
        if getattr(self, "_driver", None) is not None:
            self._driver.settle()

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The state of every algorithm, and how many steps were trained with: target policies move by that."""
        return {**super().get_state(*args, **kwargs), NUM_ENV_STEPS_TRAINED_LIFETIME: self._trained}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take the state of an equal algorithm."""
        super().set_state(state)
        if NUM_ENV_STEPS_TRAINED_LIFETIME in state:
            self._steps_trained += state[NUM_ENV_STEPS_TRAINED_LIFETIME] - self._trained

    def save_to_path(self, *args: Any, **kwargs: Any) -> str:
        """Write a checkpoint, between two updates."""
        self.settle()
        return str(super().save_to_path(*args, **kwargs))

    def restore_from_path(self, *args: Any, **kwargs: Any) -> None:
        """Take up a checkpoint, between two updates."""
        self.settle()
        super().restore_from_path(*args, **kwargs)


Impala = IMPALA
ImpalaConfig = IMPALAConfig

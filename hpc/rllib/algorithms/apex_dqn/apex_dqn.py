"""APEX (Horgan et al. 2018): runners, replay shards and the learner of DQN go on side by side.

RLlib had it until 2.8. Here the ratio of trained to sampled steps is held (``training_intensity``): results have it as
``flow/replay_ratio``. Without env runners as actors it is DQN with APEX's settings.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from hpc.rllib.algorithms.algorithm import Algorithm
from hpc.rllib.algorithms.config.given import NotProvided, section
from hpc.rllib.algorithms.dqn.dqn import DQN, DQNConfig
from hpc.rllib.algorithms.dqn.replaying import make_buffer, steps_of, take_td_errors
from hpc.rllib.utils.metrics import LEARNER_GROUP, LEARNER_UPDATE_TIMER, REPLAY_BUFFER_RESULTS, TIMERS

if TYPE_CHECKING:
    from typing_extensions import Self

#: Updates that a training step waits for, and how long it waits for them.
UPDATES, WAIT_S = 8, 1.0
#: Episodes of this share of the runners, those that explore least, count in results.
GREEDY_SHARE = 1 / 3
FLOW = "flow"
SHARDS = "replay_shards"


class ApexDQNConfig(DQNConfig):
    """Settings of APEX, with the defaults that RLlib's last version of it had."""

    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class or ApexDQN)
        self.max_requests_in_flight_per_env_runner = 2
        self.num_env_runners = 32
        self.rollout_fragment_length = 50
        self.train_batch_size = 512
        self.n_step = 3
        self.target_network_update_freq = 500_000
        self.num_steps_sampled_before_learning_starts = 50_000
        self.training_intensity = 1
        self.min_time_s_per_iteration = 30
        self.min_sample_timesteps_per_iteration = 25_000
        self.num_replay_buffer_shards = 4
        self.max_weight_sync_delay = 400
        self.exploration_base = 0.4
        self.exploration_exponent = 7.0
        self.replay_buffer_config = {
            "type": "PrioritizedEpisodeReplayBuffer",
            "capacity": 2_000_000,
            "alpha": 0.6,
            "beta": 0.4,
        }

    @section
    def training(
        self,
        *,
        num_replay_buffer_shards: int = NotProvided,
        max_weight_sync_delay: int = NotProvided,
        exploration_base: float = NotProvided,
        exploration_exponent: float = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Set how APEX learns; other keywords are those of DQN and of every algorithm.

        num_replay_buffer_shards: actors that keep the steps; each has its share of the buffer's capacity.
        max_weight_sync_delay: a runner gets new weights after it has sampled so many steps with the old ones.
        exploration_base, exploration_exponent: runner i of n takes random actions with the probability base to the
        power of 1 + exponent * (i - 1) / (n - 1).
        """
        given = {key: value for key, value in locals().items() if key != "kwargs"}
        super().training(**kwargs)
        return self._take(given)

    def validate(self) -> None:
        """Raise ValueError for settings that contradict each other."""
        super().validate()
        if self.num_replay_buffer_shards < 1:
            self._value_error("`num_replay_buffer_shards` must be 1 or more.")
        if not self.training_intensity or self.training_intensity <= 0:
            self._value_error("`training_intensity` must be above 0: it is the ratio that APEX holds.")
        if not isinstance(self.n_step, int):
            self._value_error(f"`n_step` must be a number with APEX, not {self.n_step!r}.")

    def epsilon_of(self, index: int, count: int) -> float:
        """The share of random actions of a runner."""
        place = (index - 1) / (count - 1) if count > 1 else 0.0
        return float(self.exploration_base ** (1 + self.exploration_exponent * place))

    def env_runner_overrides(self, index: int, count: int) -> Any:
        """The settings of this runner, which explores in a way of its own."""
        if index < 1 or self.in_evaluation:
            return self
        own = self.copy(copy_frozen=False)
        own.epsilon = self.epsilon_of(index, count)
        return own

    def prepare_env_runner(self, runner: Any) -> None:
        """Have a runner keep Q values: new steps get their first priorities from them."""
        actor: Any = getattr(runner, "_actor", None)
        if hasattr(actor, "keeps_scores"):
            actor.keeps_scores = True

    def replay_settings(self) -> Any:
        """How the flow of fragments and batches is held."""
        from hpc.rllib.flow.replaying import ReplaySettings

        return ReplaySettings(
            batch_steps=self.total_train_batch_size,
            intensity=float(self.training_intensity or 1.0),
            starts=self.num_steps_sampled_before_learning_starts,
            in_flight=self.max_requests_in_flight_per_env_runner,
            sync_steps=self.max_weight_sync_delay,
        )

    def shard_arguments(self) -> tuple[Any, ...]:
        """What each replay shard is made with: its buffer, how it draws, and the steps of a transition."""
        own = self.copy(copy_frozen=False)
        capacity = -(-self.replay_buffer_config["capacity"] // self.num_replay_buffer_shards)
        own.replay_buffer_config = {**self.replay_buffer_config, "capacity": capacity}
        draws = {"n_step": self.n_step, "gamma": self.gamma, "beta": self.replay_buffer_config.get("beta")}
        return own.make_buffer, draws, steps_of(self.n_step), self.gamma

    def make_buffer(self) -> Any:
        """The buffer of one shard."""
        return make_buffer(self)


class ApexDQN(DQN):
    """DQN's learner, fed by shards."""

    @classmethod
    def get_default_config(cls) -> ApexDQNConfig:
        """The defaults."""
        return ApexDQNConfig()

    def setup(self, config: Any) -> None:
        """Make shards and the driver of the flow beside all the rest."""
        self._driver: Any = None
        if not config.num_env_runners:
            super().setup(config)
            return
        Algorithm.setup(self, config)
        from hpc.rllib.flow.replay_driving import ReplayDriver

        if self._module_is_stateful():
            raise ValueError("APEX has no sequences for stateful modules: use DQN, or a model without LSTM")
        self._driver = ReplayDriver(
            self.env_runner_group,
            self.learner_group,
            self.config.replay_settings(),
            self.config.num_replay_buffer_shards,
            self.config.shard_arguments(),
            self._keywords,
            take_td_errors,
            {"rows": self.config.get_rollout_fragment_length()},
        )

    def _keywords(self) -> dict[str, Any]:
        return {"timesteps": self.timesteps()}

    def training_step(self) -> None:
        """Go on until the next updates are done."""
        if self._driver is None:
            super().training_step()
            return
        with self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
            progress = self._driver.advance(UPDATES, WAIT_S)
        greedy = self._greedy_runners()
        for sample in progress.samples:
            if sample.runner not in greedy:
                sample.episodes = []
        self.log_samples(progress.samples)
        if progress.results:
            self.log_learner_results(progress.results)
        self.metrics.log_dict(self._driver.report(), key=FLOW, window=1)
        self.metrics.log_dict(self.learner_group.get_stats(), key=LEARNER_GROUP, window=1)

    def _greedy_runners(self) -> Collection[int]:
        count = self.env_runner_group.num_remote_env_runners()
        least = max(1, round(count * GREEDY_SHARE))
        return range(count - least + 1, count + 1)

    def step(self) -> dict[str, Any]:
        """One iteration; the counts of the shards are told once in it."""
        if self._driver is None:
            return super().step()
        result: dict[str, Any] = Algorithm.step(self)
        result[REPLAY_BUFFER_RESULTS] = {
            f"shard_{index}": counts for index, counts in enumerate(self._driver.shard_metrics())
        }
        return result

    def save_to_path(self, *args: Any, **kwargs: Any) -> str:
        """Write a checkpoint, between two updates."""
        if self._driver is not None:
            self._driver.settle()
        return str(super().save_to_path(*args, **kwargs))

    def restore_from_path(self, *args: Any, **kwargs: Any) -> None:
        """Take up a checkpoint, between two updates."""
        if self._driver is not None:
            self._driver.settle()
        super().restore_from_path(*args, **kwargs)

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The state of every algorithm, and what shards hold where `store_buffer_in_checkpoints` says so."""
        if self._driver is None:
            return super().get_state(*args, **kwargs)
        state = Algorithm.get_state(self, *args, **kwargs)
        if self.config.store_buffer_in_checkpoints:
            state[SHARDS] = self._driver.get_state()
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Take the state of an equal algorithm."""
        if self._driver is None:
            super().set_state(state)
            return
        Algorithm.set_state(self, state)
        if SHARDS in state:
            self._driver.set_state(state[SHARDS])

    def cleanup(self) -> None:
        """Stop learners, env runners and shards."""
        super().cleanup()
        if getattr(self, "_driver", None) is not None:
            self._driver.end()
            self._driver = None


APEX = ApexDQN

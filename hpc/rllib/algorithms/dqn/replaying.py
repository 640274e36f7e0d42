"""What algorithms with a replay buffer share: the buffer, how often they learn, and their training step."""

from __future__ import annotations

from typing import Any

import numpy as np

from hpc.rllib.algorithms.algorithm import Algorithm
from hpc.rllib.core import ALL_MODULES
from hpc.rllib.utils import replay_buffers
from hpc.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    ENV_RUNNER_SAMPLING_TIMER,
    LEARNER_UPDATE_TIMER,
    NUM_AGENT_STEPS_SAMPLED_LIFETIME,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    REPLAY_BUFFER_ADD_DATA_TIMER,
    REPLAY_BUFFER_RESULTS,
    REPLAY_BUFFER_SAMPLE_TIMER,
    REPLAY_BUFFER_UPDATE_PRIOS_TIMER,
    SYNCH_WORKER_WEIGHTS_TIMER,
    TD_ERROR_KEY,
    TIMERS,
)

#: Buffers by the names that `replay_buffer_config["type"]` takes.
BUFFERS = {name: getattr(replay_buffers, name) for name in replay_buffers.__all__}
#: The buffer for several modules in place of one for a single module.
FOR_SEVERAL = {
    "EpisodeReplayBuffer": "MultiAgentEpisodeReplayBuffer",
    "PrioritizedEpisodeReplayBuffer": "MultiAgentPrioritizedEpisodeReplayBuffer",
}
STATE_KEY = "local_replay_buffer"


def steps_of(n_step: Any) -> int:
    """The most steps of a transition."""
    return int(n_step if isinstance(n_step, int) else n_step[1])


def check_n_step(config: Any) -> None:
    """Raise ValueError where transitions are longer than samples."""
    most, length = steps_of(config.n_step), config.rollout_fragment_length
    if most < 1 or (not isinstance(config.n_step, int) and not 1 <= config.n_step[0] <= most):
        config._value_error(f"`n_step` must be a positive integer or a pair of them, not {config.n_step!r}.")
    if not config.in_evaluation and length != "auto" and length < most:
        config._value_error(
            f"Your `rollout_fragment_length` ({length}) is smaller than `n_step` ({config.n_step})! "
            f"Try setting config.env_runners(rollout_fragment_length={most})."
        )


def check_buffer(config: Any) -> None:
    """Raise ValueError where the type of the buffer is none that there is."""
    kind = config.replay_buffer_config.get("type")
    if isinstance(kind, str) and kind.rsplit(".", 1)[-1] not in BUFFERS:
        config._value_error(f"replay_buffer_config['type'] must be one of {', '.join(BUFFERS)}, not {kind!r}.")
    elif not isinstance(kind, str) and not callable(kind):
        config._value_error(f"replay_buffer_config['type'] must be a class or its name, not {kind!r}.")


def make_buffer(config: Any) -> Any:
    """The buffer of `replay_buffer_config`. With several modules, each has one of the same settings."""
    settings = {key: value for key, value in config.replay_buffer_config.items() if key not in ("type", "beta")}
    kind = config.replay_buffer_config["type"]
    if not isinstance(kind, str):
        return kind(**settings)
    name = kind.rsplit(".", 1)[-1]
    if config.is_multi_agent:
        name = FOR_SEVERAL.get(name, name)
    settings.setdefault("metrics_num_episodes_for_smoothing", config.metrics_num_episodes_for_smoothing)
    return BUFFERS[name](seed=config.seed, **settings)


def calculate_rr_weights(config: Any) -> tuple[int, int]:
    """How many samples and how many updates take turns, so that `training_intensity` holds."""
    if not config.training_intensity:
        return 1, 1
    sampled = config.get_rollout_fragment_length() * config.num_envs_per_env_runner * max(1, config.num_env_runners)
    updates = config.training_intensity / (config.total_train_batch_size / sampled)
    return (round(1 / updates), 1) if updates < 1 else (1, round(updates))


class ReplayingAlgorithm(Algorithm):
    """Samples go into a buffer; updates draw from it."""

    def setup(self, config: Any) -> None:
        """Make the buffer beside all the rest."""
        super().setup(config)
        self.local_replay_buffer = make_buffer(self.config)
        self._rounds = calculate_rr_weights(self.config)
        #: How many steps must have been sampled before the next update.
        self._learns_from = self.config.num_steps_sampled_before_learning_starts
        self._stateful = self._module_is_stateful()

    def _module_is_stateful(self) -> bool:
        spec = self.config.get_multi_rl_module_spec(spaces=self.env_runner_group.get_spaces())
        return any(one.build().is_stateful() for one in spec.rl_module_specs.values())

    def training_step(self) -> None:
        """One round of sampling and, once there are enough steps, of learning."""
        samples_each, updates_each = self._rounds
        for _ in range(samples_each):
            self._sample_into_buffer()
        if self._steps_sampled() < self._learns_from:
            return
        updated: set[str] = set()
        for _ in range(updates_each):
            updated |= self._update_from_buffer()
        with self.metrics.log_time((TIMERS, SYNCH_WORKER_WEIGHTS_TIMER)):
            self.env_runner_group.sync_weights(
                from_worker_or_learner_group=self.learner_group, policies=sorted(updated), inference_only=True
            )

    def _sample_into_buffer(self) -> None:
        config = self.config
        rows = config.get_rollout_fragment_length()
        steps = rows * config.num_envs_per_env_runner * max(1, config.num_env_runners)
        with self.metrics.log_time((TIMERS, ENV_RUNNER_SAMPLING_TIMER)):
            samples = self.env_runner_group.collect(steps=steps, rows=rows)
            self.log_samples(samples)
        with self.metrics.log_time((TIMERS, REPLAY_BUFFER_ADD_DATA_TIMER)):
            self.local_replay_buffer.add(samples)

    def _steps_sampled(self) -> int:
        if self.config.count_steps_by == "agent_steps":
            counts = self.metrics.peek((ENV_RUNNER_RESULTS, NUM_AGENT_STEPS_SAMPLED_LIFETIME), default={})
            return int(sum(counts.values()))
        return int(self.metrics.peek((ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME), default=0))

    def _update_from_buffer(self) -> set[str]:
        config, buffer = self.config, self.local_replay_buffer
        with self.metrics.log_time((TIMERS, REPLAY_BUFFER_SAMPLE_TIMER)):
            batches = buffer.sample_batches(
                config.total_train_batch_size,
                n_step=config.n_step,
                gamma=config.gamma,
                beta=config.replay_buffer_config.get("beta"),
                batch_length_T=config.model_config.get("max_seq_len", 20) if self._stateful else 0,
                min_batch_length_T=getattr(config, "burn_in_len", 0) + 1 if self._stateful else 0,
            )
        with self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
            results = self.learner_group.update(
                batch=batches, timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: self._steps_sampled()}
            )
            errors = take_td_errors(results)
            self.log_learner_results(results)
        with self.metrics.log_time((TIMERS, REPLAY_BUFFER_UPDATE_PRIOS_TIMER)):
            for module_id, values in errors.items():
                buffer.update_priorities(values, module_id=module_id)
        return {module_id for result in results for module_id in result} - {ALL_MODULES}

    def step(self) -> dict[str, Any]:
        """One iteration; the counts of the buffer are told once in it."""
        result: dict[str, Any] = super().step()
        result[REPLAY_BUFFER_RESULTS] = self.local_replay_buffer.get_metrics()
        return result

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The state of every algorithm, and the buffer's where `store_buffer_in_checkpoints` says so."""
        state: dict[str, Any] = super().get_state(*args, **kwargs)
        if self.config.store_buffer_in_checkpoints:
            state[STATE_KEY] = self.local_replay_buffer.get_state()
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Take the state; a buffer that was saved must be wanted, and one that is wanted must have been saved."""
        super().set_state(state)
        wanted = self.config.store_buffer_in_checkpoints
        if (STATE_KEY in state) != wanted:
            import warnings

            what = "has no replay buffer, although" if wanted else "has a replay buffer, which is left out, since"
            warnings.warn(f"the checkpoint {what} store_buffer_in_checkpoints is {wanted}", stacklevel=2)
        elif wanted:
            self.local_replay_buffer.set_state(state[STATE_KEY])
        first = self.config.num_steps_sampled_before_learning_starts
        # A buffer that was not saved is filled as at the start: updates would go over its first few steps only.
        self._learns_from = first if len(self.local_replay_buffer) else self._steps_sampled() + first


def take_td_errors(results: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Take the errors of each row out of results, which tell their mean only."""
    found: dict[str, list[Any]] = {}
    for result in results:
        for module_id, module_results in result.items():
            if isinstance(module_results, dict) and TD_ERROR_KEY in module_results:
                errors = module_results.pop(TD_ERROR_KEY)
                found.setdefault(module_id, []).append(_array(errors))
    return {module_id: np.concatenate(parts) for module_id, parts in found.items()}


def _array(errors: Any) -> np.ndarray:
    value = errors.peek() if hasattr(errors, "peek") else errors
    if isinstance(value, list):
        return np.concatenate([np.asarray(one) for one in value])
    return np.asarray(value)

"""What algorithms that learn from recorded data share: the data, and their training step."""

from __future__ import annotations

from typing import Any

import numpy as np

from hpc.rllib.algorithms.algorithm import Algorithm
from hpc.rllib.core import DEFAULT_MODULE_ID
from hpc.rllib.core.columns import Columns
from hpc.rllib.offline.offline_data import OfflineData
from hpc.rllib.utils.metrics import (
    LEARNER_UPDATE_TIMER,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    OFFLINE_SAMPLING_TIMER,
    SYNCH_WORKER_WEIGHTS_TIMER,
    TIMERS,
)
from hpc.rllib.utils.trees import concatenate, map_tree, take

#: Rows of one forward pass that values recorded steps.
ROWS_AT_ONCE = 8192


def check_iterations(config: Any) -> None:
    """Raise ValueError where a local learner does not know how many updates an iteration has."""
    if config.num_learners == 0 and not config.dataset_num_iters_per_learner and not config.in_evaluation:
        config._value_error(
            "When using a local Learner (`config.num_learners=0`), the number of iterations per learner "
            "(`dataset_num_iters_per_learner`) has to be defined! Set this hyperparameter through "
            "`config.offline_data(dataset_num_iters_per_learner=...)`."
        )
    if config.is_multi_agent:
        config._value_error("Recorded data of several modules cannot be learnt from: only that of one agent can.")


class OfflineAlgorithm(Algorithm):
    """Draws batches from recorded data; env runners evaluate only."""

    #: Whether batches need targets of values.
    needs_value_targets = False

    def setup(self, config: Any) -> None:
        """Read the data beside all the rest."""
        super().setup(config)
        if not self.config.is_offline:
            raise ValueError(
                f"{type(self).__name__} learns from recorded data: give its path by config.offline_data(input_=..)"
            )
        kind = self.config.offline_data_class or OfflineData
        self.offline_data = kind(self.config)
        self._module: Any = self._build_module()
        self._updates = 0

    def _build_module(self) -> Any:
        """A module of this process: it says whether it is stateful, and values recorded steps."""
        spaces = {"__env__": self._spaces(), DEFAULT_MODULE_ID: self._spaces()}
        specs = self.config.get_multi_rl_module_spec(spaces=spaces).rl_module_specs
        return specs[DEFAULT_MODULE_ID].build()

    def _spaces(self) -> tuple[Any, Any]:
        config = self.config
        if config.observation_space is not None and config.action_space is not None:
            return config.observation_space, config.action_space
        for group in (self.env_runner_group, getattr(self, "eval_env_runner_group", None)):
            if group is not None:
                spaces: tuple[Any, Any] = group.get_spaces()[DEFAULT_MODULE_ID]
                return spaces
        raise ValueError(
            "the data does not tell its spaces: give config.environment(observation_space=.., action_space=..), or env"
        )

    def training_step(self) -> None:
        """`dataset_num_iters_per_learner` updates, or one pass over the data."""
        config = self.config
        size = config.total_train_batch_size
        count = config.dataset_num_iters_per_learner or max(1, len(self.offline_data) // size)
        sequences = config.model_config.get("max_seq_len", 20) if self._module.is_stateful() else 0
        for _ in range(count):
            with self.metrics.log_time((TIMERS, OFFLINE_SAMPLING_TIMER)):
                if self.needs_value_targets and self._updates % config.prelearner_module_synch_period == 0:
                    self._estimate_targets()
                batch = self.offline_data.sample(size, sequences_of=sequences)
                if sequences:
                    # Recordings have no states: a sequence begins as an episode does, and burnin_len brings it in.
                    rows = len(batch[DEFAULT_MODULE_ID][Columns.REWARDS])
                    batch[DEFAULT_MODULE_ID][Columns.STATE_IN] = initial_states(self._module, rows)
                self.metrics.log_value(NUM_ENV_STEPS_SAMPLED_LIFETIME, size, reduce="lifetime_sum")
            with self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
                steps = self.metrics.peek(NUM_ENV_STEPS_SAMPLED_LIFETIME, default=0)
                results = self.learner_group.update(batch=batch, timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: steps})
                self.log_learner_results(results)
            self._updates += 1
        if self.env_runner_group is not None:
            with self.metrics.log_time((TIMERS, SYNCH_WORKER_WEIGHTS_TIMER)):
                self.env_runner_group.sync_weights(from_worker_or_learner_group=self.learner_group, inference_only=True)

    def _estimate_targets(self) -> None:
        """Targets of values by the newest weights."""
        import torch

        weights = self.learner_group.get_weights([DEFAULT_MODULE_ID])[DEFAULT_MODULE_ID]
        self._module.set_state(weights)
        before, after = self.offline_data.observations()

        if self._module.is_stateful():
            self.offline_data.set_values(*values_of_pieces(self._module, before, after, self.offline_data.goes_on()))
            return

        def values(obs: Any) -> np.ndarray:
            out = []
            for start in range(0, len(self.offline_data), ROWS_AT_ONCE):
                rows = take(obs, slice(start, start + ROWS_AT_ONCE))
                with torch.no_grad():
                    out.append(self._module.compute_values({Columns.OBS: _tensors(rows)}).numpy())
            return np.concatenate(out)

        self.offline_data.set_values(values(before), values(after))


def initial_states(module: Any, rows: int) -> Any:
    """The states of so many sequences at their begin."""
    return map_tree(lambda leaf: np.repeat(np.asarray(leaf)[None], rows, axis=0), module.get_initial_state())


def values_of_pieces(module: Any, before: Any, after: Any, goes_on: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values of the observations before and after each step by a stateful module, from the begin of each piece.

    `goes_on` is False at the last step of each piece of an episode.
    """
    import torch

    values, following = np.zeros(len(goes_on), np.float32), np.zeros(len(goes_on), np.float32)
    state = _tensors(initial_states(module, 1))
    start = 0
    for stop in (np.flatnonzero(~goes_on) + 1).tolist():
        whole = concatenate([take(before, slice(start, stop)), take(after, slice(stop - 1, stop))])
        obs = map_tree(lambda leaf: leaf[None], whole)
        with torch.no_grad():
            found = module.compute_values({Columns.OBS: _tensors(obs), Columns.STATE_IN: state})[0].numpy()
        values[start:stop], following[start:stop] = found[:-1], found[1:]
        start = stop
    return values, following


def _tensors(tree: Any) -> Any:
    import torch

    return map_tree(torch.as_tensor, tree)

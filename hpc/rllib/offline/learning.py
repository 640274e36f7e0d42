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
from hpc.rllib.utils.trees import take

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
        self._valuing: Any = self._build_module()
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
        sequences = config.model_config.get("max_seq_len", 20) if self._valuing.is_stateful() else 0
        for _ in range(count):
            with self.metrics.log_time((TIMERS, OFFLINE_SAMPLING_TIMER)):
                if self.needs_value_targets and self._updates % config.prelearner_module_synch_period == 0:
                    self._estimate_targets()
                batch = self.offline_data.sample(size, sequences_of=sequences)
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
        self._valuing.set_state(weights)
        before, after = self.offline_data.observations()

        def values(obs: Any) -> np.ndarray:
            out = []
            for start in range(0, len(self.offline_data), ROWS_AT_ONCE):
                rows = take(obs, slice(start, start + ROWS_AT_ONCE))
                with torch.no_grad():
                    out.append(self._valuing.compute_values({Columns.OBS: _tensors(rows)}).numpy())
            return np.concatenate(out)

        self.offline_data.set_values(values(before), values(after))


def _tensors(tree: Any) -> Any:
    import torch

    from hpc.rllib.utils.trees import map_tree

    return map_tree(torch.as_tensor, tree)

"""Advantages by the values of the learner's module, in the learner's batch."""

from __future__ import annotations

from typing import Any

import numpy as np

from hpc.rllib.connectors.common.add_time_dim_to_batch_and_zero_pad import split_and_zero_pad
from hpc.rllib.connectors.common.modules import max_seq_len, to_numpy
from hpc.rllib.connectors.common.numpy_to_tensor import NumpyToTensor
from hpc.rllib.connectors.connector_v2 import ConnectorV2
from hpc.rllib.core.columns import Columns
from hpc.rllib.utils.spaces.space_utils import BatchedNdArray


class GeneralAdvantageEstimation(ConnectorV2):
    """Add advantages (standardised) and targets of values, as Schulman et al. (2015) have them.

    It needs the last step of each episode that `AddOneTsToEpisodesAndTruncate` adds, and stands after all other
    connectors.

    Args:
        gamma: The discount of one step.
        lambda_: The weight of longer estimates.
    """

    def __init__(
        self, input_observation_space: Any = None, input_action_space: Any = None, *, gamma: float, lambda_: float
    ) -> None:
        self.gamma = gamma
        self.lambda_ = lambda_
        super().__init__(input_observation_space, input_action_space)

    def __call__(
        self,
        *,
        rl_module: Any,
        batch: dict[str, Any],
        episodes: list[Any],
        explore: bool | None = None,
        shared_data: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Add the columns, by module."""
        single = list(self.single_agent_episode_iterator(episodes, agents_that_stepped_only=False))
        for module_id, columns in batch.items():
            module = rl_module[module_id]
            if not hasattr(module, "compute_values"):
                continue
            predicted = module.compute_values(columns)
            lengths = [len(episode) for episode in single if episode.module_id in (None, module_id)]
            names = Columns.REWARDS, Columns.TERMINATEDS, Columns.TRUNCATEDS
            values = _rows_of(to_numpy(predicted), lengths)
            rewards, ends, cuts = (_rows_of(to_numpy(columns[name]), lengths) for name in names)
            targets = self._targets(values, rewards, ends, cuts, lengths)
            advantages = targets - values
            advantages = (advantages - advantages.mean()) / max(1e-4, advantages.std())
            out = {Columns.ADVANTAGES: advantages, Columns.VALUE_TARGETS: targets}
            if module.is_stateful():
                out = {name: _padded(rows, lengths, max_seq_len(module)) for name, rows in out.items()}
            convert = NumpyToTensor(device=getattr(predicted, "device", None))
            columns.update(convert(rl_module=rl_module, batch=out, episodes=episodes))
        return batch

    def _targets(
        self, values: np.ndarray, rewards: np.ndarray, ends: np.ndarray, cuts: np.ndarray, lengths: list[int]
    ) -> np.ndarray:
        """Values plus advantages, episode by episode; the last row of each is the one that was added."""
        out = values.astype(np.float32)
        start = 0
        for length in lengths:
            advantage = 0.0
            for t in range(start + length - 2, start - 1, -1):
                going = 1.0 - float(ends[t])
                delta = rewards[t] + self.gamma * values[t + 1] * going - values[t]
                advantage = delta + self.gamma * self.lambda_ * going * (1.0 - float(cuts[t])) * advantage
                out[t] = values[t] + advantage
            start += length
        return out


def _rows_of(data: np.ndarray, lengths: list[int]) -> np.ndarray:
    """The rows of episodes one after another, of data that is cut into padded sequences or not."""
    if data.ndim == 1:
        return data
    rows, at = [], 0
    for length in lengths:
        sequences = -(-length // data.shape[1])
        rows.append(data[at : at + sequences].reshape(-1)[:length])
        at += sequences
    return np.concatenate(rows)


def _padded(rows: np.ndarray, lengths: list[int], longest: int) -> np.ndarray:
    parts, start = [], 0
    for length in lengths:
        parts += split_and_zero_pad([BatchedNdArray(rows[start : start + length])], longest)
        start += length
    return np.concatenate([np.asarray(part) for part in parts])

"""The last frames of an episode as one observation."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from hpc.rllib.connectors.connector_v2 import Batch, ConnectorV2
from hpc.rllib.connectors.rows import Rows
from hpc.rllib.core.columns import Columns


class FrameStacking(ConnectorV2):
    """Join the last frames along the last axis; before an episode's start they are 0.

    Args:
        num_frames: How many frames.
        multi_agent: Whether spaces are Dicts by agent.
        as_learner_connector: Whether it works on whole episodes for the learner. Those of a runner's fragments hold
            stacked frames, which stay as they are.
    """

    def __init__(
        self,
        input_observation_space: Any = None,
        input_action_space: Any = None,
        *,
        num_frames: int = 1,
        multi_agent: bool = False,
        as_learner_connector: bool = False,
        **kwargs: Any,
    ) -> None:
        self._multi_agent = multi_agent
        self.num_frames = num_frames
        self.looks_back = num_frames - 1
        self._as_learner_connector = as_learner_connector
        super().__init__(input_observation_space, input_action_space, **kwargs)

    def _stacked(self, space: Any) -> Any:
        if not isinstance(space, gym.spaces.Box) or not space.shape or space.shape[-1] != 1:
            raise ValueError(f"frames are stacked along a last axis of 1: the observations have the space {space}")
        low, high = (np.repeat(bound, self.num_frames, axis=-1) for bound in (space.low, space.high))
        return gym.spaces.Box(low, high, space.shape[:-1] + (self.num_frames,), space.dtype)

    def recompute_output_observation_space(self, input_observation_space: Any, input_action_space: Any) -> Any:
        """The Box with a longer last axis, or one for each agent."""
        if self._multi_agent:
            return gym.spaces.Dict({a: self._stacked(space) for a, space in input_observation_space.spaces.items()})
        return self._stacked(input_observation_space)

    def on_rows(self, rows: Rows) -> None:
        """Shift the frames of all environments by one."""
        obs, count = np.asarray(rows.obs), self.num_frames
        held = rows.memory.get(self)
        if held is None or held.shape[:-1] != obs.shape[:-1]:
            held = np.zeros(obs.shape[:-1] + (count,), obs.dtype)
        else:
            kept = held
            held = np.empty_like(kept)
            held[..., :-1] = kept[..., 1:]
            held[rows.first] = 0
            if rows.valid is not None:
                held[~rows.valid] = kept[~rows.valid]
        where = slice(None) if rows.valid is None else rows.valid
        held[where, ..., -1] = obs[where, ..., 0]
        rows.memory[self] = rows.obs = held

    def __call__(
        self,
        *,
        rl_module: Any,
        batch: Batch,
        episodes: list[Any],
        explore: bool | None = None,
        shared_data: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Add the stacked last frames, or those of all steps for the learner, to the batch."""
        for episode in self.single_agent_episode_iterator(episodes, not self._as_learner_connector):
            if not self._as_learner_connector:
                frames = episode.get_observations(slice(-self.num_frames, None), fill=0.0)
                self.add_batch_item(batch, Columns.OBS, np.concatenate(frames, axis=-1), episode)
                continue
            if self._is_stacked(episode):
                whole = episode.get_observations(slice(0, len(episode)))
                self.add_n_batch_items(batch, Columns.OBS, whole, len(episode), episode)
                continue
            span = slice(1 - self.num_frames, len(episode))
            frames = np.asarray(episode.get_observations(span, neg_index_as_lookback=True, fill=0.0))[..., 0]
            stacked = np.lib.stride_tricks.sliding_window_view(frames, self.num_frames, axis=0)
            self.add_n_batch_items(batch, Columns.OBS, stacked.copy(), len(episode), episode)
        return batch

    def _is_stacked(self, episode: Any) -> bool:
        """Whether the runner that made the episode has stacked its frames: single ones have a last axis of 1."""
        return self.num_frames > 1 and np.shape(episode.get_observations(0))[-1] == self.num_frames

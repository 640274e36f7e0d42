"""States of recurrent modules in the batch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hpc.rllib.connectors.common.modules import initial_state, is_stateful, max_seq_len, module_of
from hpc.rllib.connectors.connector_v2 import Batch, ConnectorV2
from hpc.rllib.connectors.rows import Rows
from hpc.rllib.core.columns import Columns
from hpc.rllib.utils.trees import map_tree


class AddStatesFromEpisodesToBatch(ConnectorV2):
    """Add the state before the next step, or for the learner that of before each sequence.

    A runner that works on arrays holds the states by environment itself.
    """

    def __init__(
        self,
        input_observation_space: Any = None,
        input_action_space: Any = None,
        *,
        as_learner_connector: bool = False,
        **kwargs: Any,
    ) -> None:
        self._as_learner_connector = as_learner_connector
        super().__init__(input_observation_space, input_action_space, **kwargs)

    def on_rows(self, rows: Rows) -> None:
        """Leave them: the runner holds the states."""

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
        """Add the states, where the module has any and the batch has none."""
        if rl_module is None or Columns.STATE_IN in batch:
            return batch
        for episode in self.single_agent_episode_iterator(episodes, not self._as_learner_connector):
            if not is_stateful(rl_module, episode.module_id):
                continue
            outs = episode.extra_model_outputs.get(Columns.STATE_OUT)
            begins = outs is None or (episode.t_started == 0 and (self._as_learner_connector or len(episode) == 0))
            if self._as_learner_connector:
                self._add_all(batch, episode, rl_module, outs, begins)
                continue
            module = module_of(rl_module, episode.module_id)
            state = initial_state(module) if begins else outs.get(-1)
            self.add_batch_item(batch, Columns.STATE_IN, state, episode)
        return batch

    def _add_all(self, batch: Batch, episode: Any, rl_module: Any, outs: Any, begins: bool) -> None:
        length, steps = max_seq_len(rl_module, episode.module_id), len(episode)
        module = module_of(rl_module, episode.module_id)
        before = initial_state(module) if begins else outs.get(-1, neg_index_as_lookback=True)
        ins = episode.extra_model_outputs.get(Columns.STATE_IN)
        if outs is None and ins is not None:
            # Episodes of fragments have the states before their steps.
            ins.finalize()
            before = map_tree(lambda leaf: leaf[0], ins.get())
            after = map_tree(lambda leaf: np.concatenate([leaf[1:], leaf[-1:]]), ins.get())
        elif outs is None:
            after = map_tree(lambda leaf: np.repeat(leaf[None], steps, axis=0), before)
        else:
            outs.finalize()
            after = outs.get()
        states = map_tree(lambda one, rest: np.concatenate([one[None], rest[:-1]])[::length], before, after)
        self.add_n_batch_items(batch, Columns.STATE_IN, states, math.ceil(steps / length), episode)
        if Columns.NEXT_OBS in batch:
            following = map_tree(lambda leaf: leaf[::length], after)
            self.add_n_batch_items(batch, Columns.NEXT_STATE_IN, following, math.ceil(steps / length), episode)

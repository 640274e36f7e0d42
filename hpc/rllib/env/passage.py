"""The way of rows through a runner's connectors: as arrays, or by episodes where a user's connector wants them."""

from __future__ import annotations

from typing import Any

import numpy as np

from hpc.rllib.connectors.common import AddStatesFromEpisodesToBatch, AddTimeDimToBatchAndZeroPad, NumpyToTensor
from hpc.rllib.connectors.common.batch_individual_items import BatchIndividualItems
from hpc.rllib.connectors.connector_v2 import works_on_arrays
from hpc.rllib.connectors.rows import Acts, Rows
from hpc.rllib.core.columns import Columns
from hpc.rllib.core.masks import ACTION_MASK, flat_mask
from hpc.rllib.utils.trees import map_tree

#: Connectors whose work the runner and the module's actor do: states by environment, the axis of time, tensors.
_OF_THE_RUNNER = (AddStatesFromEpisodesToBatch, AddTimeDimToBatchAndZeroPad, NumpyToTensor)
_TAKEN = {Columns.OBS, ACTION_MASK}


class Passage:
    """Runs the two pipelines of a runner."""

    def __init__(self, runner: Any) -> None:
        self._runner = runner
        self._to_module = runner._env_to_module
        self._to_env = runner._module_to_env
        self._rows_on_arrays = works_on_arrays(self._to_module, "on_rows")
        self._acts_on_arrays = works_on_arrays(self._to_env, "on_actions")
        #: Whether no connector needs episodes.
        self.on_arrays = self._rows_on_arrays and self._acts_on_arrays
        self._memory: dict[Any, Any] = {}
        self._shared: dict[str, Any] = {}

    def forget(self) -> None:
        """Forget what connectors remember of running episodes."""
        self._memory = {}
        self._shared = {}

    def rows(
        self, observations: Any, first: np.ndarray, actions: Any, rewards: Any, explore: bool
    ) -> tuple[Any, np.ndarray | None]:
        """What the module sees, and the mask of allowed actions."""
        observations = _plain(observations)
        rows = Rows(observations, first, actions, rewards, explore=explore, memory=self._memory)
        self._to_module.on_rows(rows)
        return rows.obs, None if rows.mask is None else flat_mask(_plain(rows.mask))

    def episodes(self, episodes: list[Any], explore: bool) -> tuple[Any, np.ndarray | None]:
        """The same by episodes: each connector gets them, and changes them or the batch."""
        self._shared.clear()
        batch: dict[str, Any] = {}
        runner = self._runner
        for connector in self._to_module.connectors:
            if isinstance(connector, _OF_THE_RUNNER):
                continue
            batch = connector(
                rl_module=runner.module,
                batch=batch,
                episodes=episodes,
                explore=explore,
                shared_data=self._shared,
                metrics=runner.metrics,
                data=batch,
            )
            if not isinstance(batch, dict):
                raise ValueError(
                    f"`data` returned by ConnectorV2 {connector} must be a dict! You returned {batch}. Check your "
                    "(custom) connectors' `__call__()` method's return value."
                )
        if Columns.OBS not in batch:
            raise ValueError("no connector added observations to the batch: AddObservationsFromEpisodesToBatch does it")
        if any(isinstance(data, (dict, list)) for data in (batch[Columns.OBS],)) and not _is_tree(batch[Columns.OBS]):
            batch = BatchIndividualItems()(rl_module=None, batch=batch, episodes=episodes, shared_data=self._shared)
        if others := set(batch) - _TAKEN:
            raise ValueError(
                f"connectors added the columns {sorted(others)} to the batch for acting: a runner gives "
                "observations and "
                "masks to the module. Put what it needs into the observations, as PrevActionsPrevRewards does."
            )
        mask = batch.get(ACTION_MASK)
        return batch[Columns.OBS], None if mask is None else flat_mask(mask)

    def actions(self, outputs: dict[str, Any], explore: bool, live: Any) -> dict[str, Any]:
        """The module's outputs with the actions for the environments."""
        if self._acts_on_arrays:
            acts = Acts(outputs[Columns.ACTIONS], outputs[Columns.ACTIONS])
            self._to_env.on_actions(acts)
            outputs[Columns.ACTIONS], outputs[Columns.ACTIONS_FOR_ENV] = acts.actions, acts.for_env
            return outputs
        state = outputs.pop(Columns.STATE_OUT, None)
        runner = self._runner
        shared = {**self._shared, "memorized_map_structure": [episode.id_ for episode in live.running]}
        shared.pop("_added_single_ts_time_rank", None)
        batch = self._to_env(
            rl_module=runner.module,
            batch=dict(outputs),
            episodes=live.running,
            explore=explore,
            shared_data=shared,
            metrics=runner.metrics,
        )
        batch.setdefault(Columns.ACTIONS_FOR_ENV, batch[Columns.ACTIONS])
        out = {name: np.stack(data) if isinstance(data, list) else data for name, data in batch.items()}
        if state is not None:
            out[Columns.STATE_OUT] = state
        return out


def _plain(tree: Any) -> Any:
    """Plain dicts and tuples of what gymnasium returns."""
    if isinstance(tree, np.ndarray):
        return tree
    if isinstance(tree, (dict, tuple)):
        return map_tree(lambda leaf: leaf, tree)
    return np.asarray(tree)


def _is_tree(data: Any) -> bool:
    """Whether it is a nest of arrays, and no dict of lists by episode."""
    if isinstance(data, dict):
        return not any(isinstance(key, tuple) for key in data)
    return not isinstance(data, list)

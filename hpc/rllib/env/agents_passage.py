"""The way of several agents' records through a runner's connectors."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from hpc.rllib.connectors.common import (
    AddObservationsFromEpisodesToBatch,
    AddStatesFromEpisodesToBatch,
    AddTimeDimToBatchAndZeroPad,
    AgentToModuleMapping,
    BatchIndividualItems,
    NumpyToTensor,
)
from hpc.rllib.connectors.connector_v2 import works_on_arrays
from hpc.rllib.connectors.module_to_env import NormalizeAndClipActions
from hpc.rllib.connectors.rows import Acts
from hpc.rllib.core.columns import Columns
from hpc.rllib.core.masks import ACTION_MASK, flat_mask
from hpc.rllib.utils.spaces.space_utils import flatten_space
from hpc.rllib.utils.trees import map_tree, take

#: Connectors whose work the runner does itself.
_OF_THE_RUNNER = (
    AddObservationsFromEpisodesToBatch,
    AddStatesFromEpisodesToBatch,
    AddTimeDimToBatchAndZeroPad,
    AgentToModuleMapping,
    BatchIndividualItems,
    NumpyToTensor,
)


class AgentsPassage:
    """Runs the two pipelines of a runner with several agents; connectors get its episodes."""

    def __init__(self, runner: Any) -> None:
        self._runner = runner
        pieces = runner._env_to_module.connectors
        self._pieces = [piece for piece in pieces if not isinstance(piece, _OF_THE_RUNNER)]
        #: How many steps of an agent connectors read before its last one.
        self.looks_back = max((piece.looks_back for piece in self._pieces), default=0)
        self._to_env = runner._module_to_env
        self._acts_on_arrays = works_on_arrays(self._to_env, "on_actions")
        self._stretches = self._needs_stretching()
        #: What connectors put into the batch, by the ids of episode and agent.
        self._batch: dict[str, dict[tuple[str, Any], Any]] = {Columns.OBS: {}, ACTION_MASK: {}}
        #: Observations that connectors put into the batch, since chunks were taken: episodes have others.
        self._shown: dict[tuple[str, Any], list[Any]] = {}
        #: The newest masks, also of episodes that are done and were not taken yet.
        self._masks: dict[tuple[str, Any], Any] = {}

    def _needs_stretching(self) -> bool:
        """Whether the default connectors change any action."""
        if self._runner.env is None:
            return False
        parts = flatten_space(self._runner.env.single_action_space)
        shifted = any(np.any(getattr(part, "start", 0)) for part in parts)
        default = [piece for piece in self._to_env.connectors if isinstance(piece, NormalizeAndClipActions)]
        changes = any(piece.normalize_actions or piece.clip_actions for piece in default)
        return shifted or (changes and any(isinstance(part, gym.spaces.Box) for part in parts))

    # -------------------------------------------------------------- to the modules

    def see(self, episodes: list[Any], explore: bool) -> None:
        """Let connectors work on the new observations of episodes."""
        if not self._pieces or not episodes:
            return
        shared: dict[str, Any] = {}
        batch: dict[str, Any] = {}
        runner = self._runner
        for piece in self._pieces:
            batch = piece(
                rl_module=runner.module,
                batch=batch,
                episodes=episodes,
                explore=explore,
                shared_data=shared,
                metrics=runner.metrics,
                data=batch,
            )
        if others := set(batch) - set(self._batch):
            raise ValueError(
                f"connectors added the columns {sorted(others)} to the batch for acting: a runner gives "
                "observations and "
                "masks to the modules. Put what they need into the observations, as PrevActionsPrevRewards does."
            )
        alive = {episode.id_ for episode in runner._running}
        for column, held in self._batch.items():
            for key in [key for key in held if key[0] not in alive]:
                del held[key]
            for (episode_id, agent_id, _), records in batch.get(column, {}).items():
                held[episode_id, agent_id] = records[-1]
                if column == Columns.OBS:
                    self._shown.setdefault((episode_id, agent_id), []).append(records[-1])
                else:
                    self._masks[episode_id, agent_id] = records[-1]

    def take_shown(self) -> tuple[dict[tuple[str, Any], list[Any]], dict[tuple[str, Any], Any]]:
        """What modules saw in chunks that are taken now, by episode and agent: observations, where episodes have
        others, and the masks of the last ones."""
        shown, masks = self._shown, self._masks
        alive = {episode.id_ for episode in self._runner._running if not episode.is_done}
        self._shown = {key: records[-1:] for key, records in shown.items() if key[0] in alive}
        self._masks = {key: mask for key, mask in masks.items() if key[0] in alive}
        return shown, masks

    def seen(self, episode: Any, agent_id: Any) -> tuple[Any, np.ndarray | None]:
        """What the module sees of an agent, and the mask of its allowed actions."""
        key = (episode.id_, agent_id)
        own = episode.agent_episodes[agent_id]
        obs = self._batch[Columns.OBS].get(key)
        mask = self._batch[ACTION_MASK].get(key)
        return (
            own.get_observations(-1) if obs is None else obs,
            None if mask is None else flat(mask),
        )

    # -------------------------------------------------------------- to the environments

    def actions(
        self, waiting: dict[str, Any], outputs: dict[str, Any], episodes: list[Any], explore: bool
    ) -> tuple[list[Any], list[Any], list[Any]]:
        """For each environment, dicts by agent: the modules' actions, those for the environment, other outputs."""
        if not self._acts_on_arrays and self._runner.module is not None:
            return self._by_connectors(waiting, outputs, episodes, explore)
        actions: list[dict[Any, Any]] = [{} for _ in episodes]
        for_env: list[dict[Any, Any]] = [{} for _ in episodes]
        extra: list[dict[Any, Any]] = [{} for _ in episodes]
        for module_id, places in waiting.items():
            columns = outputs[module_id]
            acted = columns.pop(Columns.ACTIONS)
            for i, (at, agent_id) in enumerate(places):
                actions[at][agent_id] = action = take(acted, i)
                for_env[at][agent_id] = self._stretched(action, agent_id) if self._stretches else action
                extra[at][agent_id] = {name: take(data, i) for name, data in columns.items()}
        return actions, for_env, extra

    def _stretched(self, action: Any, agent_id: Any) -> Any:
        acts = Acts(action, action, agent_id)
        self._to_env.on_actions(acts)
        return acts.for_env

    def _by_connectors(
        self, waiting: dict[str, Any], outputs: dict[str, Any], episodes: list[Any], explore: bool
    ) -> tuple[list[Any], list[Any], list[Any]]:
        # What the runner adds of its own goes around the user's connectors.
        around = {
            name: {module_id: columns.pop(name, None) for module_id, columns in outputs.items()}
            for name in (Columns.STATE_IN, ACTION_MASK)
        }
        places = {m: [(episodes[at].id_, agent_id) for at, agent_id in part] for m, part in waiting.items()}
        batch = self._to_env(
            rl_module=self._runner.module,
            batch=outputs,
            episodes=episodes,
            explore=explore,
            shared_data={"memorized_map_structure": places},
            metrics=self._runner.metrics,
        )
        nobody: list[dict[Any, Any]] = [{} for _ in episodes]
        actions = batch.pop(Columns.ACTIONS, nobody)
        for_env = batch.pop(Columns.ACTIONS_FOR_ENV, actions)
        extra: list[dict[Any, Any]] = [{agent_id: {} for agent_id in part} for part in actions]
        for name, by_env in batch.items():
            for at, by_agent in enumerate(by_env):
                for agent_id, value in by_agent.items():
                    extra[at][agent_id][name] = value
        for name, by_module in around.items():
            for module_id, data in by_module.items():
                for i, (at, agent_id) in enumerate(waiting[module_id] if data is not None else []):
                    extra[at][agent_id][name] = take(data, i)
        return actions, for_env, extra


def flat(mask: Any) -> np.ndarray:
    """The mask of one agent as booleans [k]."""
    row: np.ndarray = flat_mask(map_tree(lambda leaf: np.asarray(leaf)[None], mask))[0]
    return row

"""Batches by module, made of batches by agent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym

from hpc.rllib.connectors.connector_v2 import Batch, ConnectorV2
from hpc.rllib.connectors.rows import Rows


class AgentToModuleMapping(ConnectorV2):
    """Give each module the records of the agents that it acts for.

    Args:
        rl_module_specs: The modules' specs by id, or only their ids.
        agent_to_module_mapping_fn: Gives the module's id of an agent and an episode.
    """

    def __init__(
        self,
        input_observation_space: Any = None,
        input_action_space: Any = None,
        *,
        rl_module_specs: Any,
        agent_to_module_mapping_fn: Callable[..., str],
        as_learner_connector: bool = False,
    ) -> None:
        self._rl_module_specs = rl_module_specs
        self._agent_to_module_mapping_fn = agent_to_module_mapping_fn
        self._as_learner_connector = as_learner_connector
        super().__init__(input_observation_space, input_action_space)

    def on_rows(self, rows: Rows) -> None:
        """Leave them: the runner joins agents' rows by module."""

    def recompute_output_observation_space(self, input_observation_space: Any, input_action_space: Any) -> Any:
        """The observation spaces by module."""
        return self._by_module(input_observation_space, "observation_space")

    def recompute_output_action_space(self, input_observation_space: Any, input_action_space: Any) -> Any:
        """The action spaces by module."""
        return self._by_module(input_action_space, "action_space")

    def _by_module(self, space: Any, which: str) -> Any:
        if set(self._rl_module_specs) == set(space.spaces):
            return space
        return gym.spaces.Dict(
            {module_id: self._space_of(module_id, space, which) for module_id in self._rl_module_specs}
        )

    def _space_of(self, module_id: str, space: Any, which: str) -> Any:
        specs = self._rl_module_specs
        said = getattr(specs[module_id], which, None) if isinstance(specs, dict) else None
        if said is not None:
            return said
        parts = list(space.spaces.values())
        if all(part == parts[0] for part in parts):
            return parts[0]
        found: dict[Any, Any] = {}
        for agent_id, part in space.spaces.items():
            if self._agent_to_module_mapping_fn(agent_id, None) == module_id:
                found[agent_id] = part
        kinds = list(found.values())
        if not kinds:
            raise ValueError(
                f"Could not find or derive any {which} for RLModule {module_id}: no agent of the environment is "
                "mapped to "
                "it. Give it by `config.rl_module(rl_module_spec=MultiRLModuleSpec(rl_module_specs={"
                f"'{module_id}': RLModuleSpec(observation_space=..., action_space=...)}}))`."
            )
        if any(part != kinds[0] for part in kinds):
            raise ValueError(
                f"Agents {list(found)} map to the same RLModule {module_id}, but their {which}s differ: {found}. "
                "Map them to different modules, or give them equal spaces."
            )
        return kinds[0]

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
        """Turn ``{column: {(episode, agent, module): records}}`` into ``{module: {column: records}}``."""
        acting = None
        if not self._as_learner_connector:
            acting = {(one.id_, agent_id) for one in episodes for agent_id in one.get_agents_to_act()}
        places: dict[str, list[tuple[Any, Any]]] = {}
        out: dict[str, Batch] = {}
        for at, (column, by_key) in enumerate(batch.items()):
            for (episode_id, agent_id, module_id), records in by_key.items():
                if acting is not None and (episode_id, agent_id) not in acting:
                    continue
                if at == 0:
                    places.setdefault(module_id, []).append((episode_id, agent_id))
                out.setdefault(module_id, {}).setdefault(column, []).extend(records)
        if shared_data is not None:
            shared_data["memorized_map_structure"] = places
        return out

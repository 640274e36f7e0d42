"""A connector of users that changes observations one by one."""

from __future__ import annotations

import abc
from typing import Any

from hpc.rllib.connectors.connector_v2 import Batch, ConnectorV2


class SingleAgentObservationPreprocessor(ConnectorV2, abc.ABC):
    """Write ``preprocess``; it gets each new observation with its episode."""

    @abc.abstractmethod
    def preprocess(self, observation: Any, episode: Any) -> Any:
        """The observation that the module shall see."""

    def __call__(
        self,
        *,
        rl_module: Any,
        batch: Batch,
        episodes: list[Any],
        explore: bool | None = None,
        persistent_data: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Replace the last observation of each episode."""
        for episode in self.single_agent_episode_iterator(episodes):
            new = self.preprocess(observation=episode.get_observations(-1), episode=episode)
            episode.set_observations(at_indices=-1, new_data=new)
            space = self.observation_space
            episode.observation_space = space if episode.agent_id is None else space[episode.agent_id]
        return batch


class MultiAgentObservationPreprocessor(ConnectorV2, abc.ABC):
    """Write ``preprocess``; it gets the new observations of all agents with their episode."""

    @abc.abstractmethod
    def preprocess(self, observations: dict[Any, Any], episode: Any) -> dict[Any, Any]:
        """The observations that the modules shall see, by agent."""

    def __call__(
        self,
        *,
        rl_module: Any,
        batch: Batch,
        episodes: list[Any],
        explore: bool | None = None,
        persistent_data: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Replace the last observations of each episode."""
        for episode in episodes:
            new = self.preprocess(observations=episode.get_observations(-1), episode=episode)
            for agent_id, observation in new.items():
                episode.agent_episodes[agent_id].set_observations(at_indices=-1, new_data=observation)
            episode.observation_space = self.observation_space
        return batch


ObservationPreprocessor = SingleAgentObservationPreprocessor

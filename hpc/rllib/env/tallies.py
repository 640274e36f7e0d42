"""What a running episode of several agents had in the chunks that were cut off."""

from __future__ import annotations

from dataclasses import dataclass, field

from hpc.rllib.env.fragment import EpisodeRecord
from hpc.rllib.env.multi_agent_episode import MultiAgentEpisode


@dataclass
class Tally:
    """Sums over the chunks of one episode."""

    length: int = 0
    seconds: float = 0.0
    agents: dict[str, float] = field(default_factory=dict)
    modules: dict[str, float] = field(default_factory=dict)
    agent_steps: dict[str, int] = field(default_factory=dict)

    def keep(self, chunk: MultiAgentEpisode) -> None:
        """Add a chunk."""
        self.length += len(chunk)
        self.seconds += chunk.get_duration_s()
        for agent_id, episode in chunk.agent_episodes.items():
            name, module_id, total = str(agent_id), str(episode.module_id), float(episode.get_return())
            self.agents[name] = self.agents.get(name, 0.0) + total
            self.modules[module_id] = self.modules.get(module_id, 0.0) + total
            self.agent_steps[name] = self.agent_steps.get(name, 0) + len(episode)

    def record(self, last: MultiAgentEpisode) -> EpisodeRecord:
        """The record of the episode, with its last chunk."""
        self.keep(last)
        total = sum(self.agents.values())
        return EpisodeRecord(total, self.length, self.seconds, self.agents, self.modules, self.agent_steps)

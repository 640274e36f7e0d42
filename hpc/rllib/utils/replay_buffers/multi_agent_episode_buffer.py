"""Replay for several modules: each has a buffer of its own, from which its train batches are drawn independently."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from hpc.rllib.env.fragment import Fragment, Sample
from hpc.rllib.utils.replay_buffers.base import ReplayBufferInterface
from hpc.rllib.utils.replay_buffers.episode_replay_buffer import EpisodeReplayBuffer
from hpc.rllib.utils.replay_buffers.prioritized_episode_buffer import PrioritizedEpisodeReplayBuffer


class MultiAgentEpisodeReplayBuffer(ReplayBufferInterface):
    """One buffer of `capacity` steps for each module; `settings` are those of a buffer for one module."""

    kind: ClassVar[type[EpisodeReplayBuffer]] = EpisodeReplayBuffer

    def __init__(self, capacity: int = 10000, *, seed: int | None = None, **settings: Any) -> None:
        self.capacity = capacity
        self._settings = settings
        self._seeds = np.random.SeedSequence(seed)
        self.modules: dict[str, EpisodeReplayBuffer] = {}

    def __len__(self) -> int:
        return sum(len(buffer) for buffer in self.modules.values())

    def _of(self, module_id: str) -> EpisodeReplayBuffer:
        if module_id not in self.modules:
            seed = int(self._seeds.spawn(1)[0].generate_state(1)[0])
            self.modules[module_id] = self.kind(self.capacity, seed=seed, **self._settings)
        return self.modules[module_id]

    def add(self, episodes: Any, **kwargs: Any) -> None:
        """Keep samples, or multi-agent episodes, by module."""
        for item in episodes if isinstance(episodes, (list, tuple)) else [episodes]:
            if isinstance(item, Sample):
                for module_id, fragment in item.modules.items():
                    self._of(module_id).add_fragment(fragment)
                continue
            for agent_id, episode in item.agent_episodes.items():
                if len(episode):
                    key = (item.id_, agent_id)
                    self._of(episode.module_id).add_fragment(Fragment.of_episodes([episode]), key=key)

    def sample_batches(
        self, num_items: int, *, modules: set[str] | None = None, **settings: Any
    ) -> dict[str, dict[str, Any]]:
        """A train batch of `num_items` steps for each module that has steps."""
        chosen = [name for name, buffer in self.modules.items() if len(buffer) and (modules is None or name in modules)]
        return {name: self.modules[name].sample_batch(num_items, **settings) for name in chosen}

    def sample(self, num_items: int | None = None, **kwargs: Any) -> dict[str, Any]:
        """What the buffer of each module gives."""
        return {name: buffer.sample(num_items, **kwargs) for name, buffer in self.modules.items() if len(buffer)}

    def update_priorities(self, priorities: Any, module_id: str | None = None) -> None:
        """Set the priorities of the steps that were drawn last for a module."""
        if module_id is None:
            raise ValueError("a buffer for several modules needs module_id to set priorities")
        self._of(module_id).update_priorities(priorities)

    def get_module_ids(self) -> list[str]:
        """The modules that have steps."""
        return list(self.modules)

    def get_num_episodes(self, module_id: str | None = None) -> int:
        """How many episodes of the module (or of all) have steps in the buffer."""
        return sum(buffer.get_num_episodes() for buffer in self._chosen(module_id))

    def get_num_timesteps(self, module_id: str | None = None) -> int:
        """How many steps of the module (or of all) are kept."""
        return sum(len(buffer) for buffer in self._chosen(module_id))

    def get_num_agent_timesteps(self) -> int:
        """How many steps of agents are kept."""
        return len(self)

    def get_sampled_timesteps(self, module_id: str | None = None) -> int:
        """How many steps were drawn so far."""
        return sum(buffer.get_sampled_timesteps() for buffer in self._chosen(module_id))

    def get_added_timesteps(self, module_id: str | None = None) -> int:
        """How many steps were added so far."""
        return sum(buffer.get_added_timesteps() for buffer in self._chosen(module_id))

    def _chosen(self, module_id: str | None) -> list[EpisodeReplayBuffer]:
        if module_id is None:
            return list(self.modules.values())
        return [self.modules[module_id]] if module_id in self.modules else []

    def get_metrics(self) -> dict[str, Any]:
        """Sums over modules, and what has a dict of modules by module."""
        out: dict[str, Any] = {}
        for module_id, buffer in self.modules.items():
            for name, value in buffer.get_metrics().items():
                if not isinstance(value, dict):
                    share = name in ("env_step_utilization", "actual_n_step")
                    out[name] = max(out.get(name, 0), value) if share else out.get(name, 0) + value
                elif name.startswith("num_module"):
                    out.setdefault(name, {})[module_id] = next(iter(value.values()))
        return out

    def get_state(self) -> dict[str, Any]:
        """The states of all modules' buffers."""
        return {"modules": {name: buffer.get_state() for name, buffer in self.modules.items()}}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take the state of an equal buffer."""
        for name, one in state["modules"].items():
            self._of(name).set_state(one)


class MultiAgentPrioritizedEpisodeReplayBuffer(MultiAgentEpisodeReplayBuffer):
    """One prioritized buffer for each module."""

    kind = PrioritizedEpisodeReplayBuffer

"""Parts of episodes with several agents: marks, the error, and work on one agent's share."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from hpc.rllib.env.single_agent_episode import SingleAgentEpisode

#: Stands for a step of the environment in which an agent had no observation.
SKIP = "S"
ALL = "__all__"


class MultiAgentEnvError(Exception):
    """An environment with several agents broke a rule. The message says which."""


def default_mapping(agent_id: Any, episode: Any, **kwargs: Any) -> str:
    """All agents have the default module."""
    return "default_policy"


def space_of(spaces: Any, agent_id: Any) -> Any:
    """The space of an agent in a Dict space or a dict; None where there is none."""
    if hasattr(spaces, "spaces"):
        spaces = spaces.spaces
    return spaces.get(agent_id) if isinstance(spaces, dict) else None


def look_back(episode: SingleAgentEpisode, steps: int) -> None:
    """Call the first steps of an agent's episode its lookback."""
    for column in (episode.observations, episode.infos, episode.actions, episode.rewards):
        column.lookback = steps
    for column in episode.extra_model_outputs.values():
        column.lookback = steps


def renumbered(entries: Collection[Any], first: int) -> list[Any]:
    """The steps of a mapping, counted from another one on."""
    return [entry if entry == SKIP else entry + first for entry in entries]


def picture(episode: Any) -> str:
    """A table of the steps of the environment at which each agent had an observation."""
    width = max(len(str(agent_id)) for agent_id in episode.agent_episodes)
    mappings = episode.env_t_to_agent_t
    lookback = next(iter(mappings.values())).lookback
    steps = range(-lookback, len(episode) + 1)
    lines = ["ts" + " " * width + "   ".join(str(t) for t in steps)]
    for agent_id, mapping in mappings.items():
        marks = "".join("    " if t == SKIP else " x  " for t in mapping.data)
        lines.append(f"{agent_id}  ".ljust(width + 2) + marks.rstrip())
    return "\n".join(lines)

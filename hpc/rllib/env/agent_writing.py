"""Writing over what an episode of several agents holds: for connectors."""

from __future__ import annotations

from typing import Any


class Writable:
    """The setters of an episode with one of each agent in ``agent_episodes``."""

    agent_episodes: dict[Any, Any]

    def _set(self, what: str, new_data: dict[Any, Any], **how: Any) -> None:
        for agent_id, new in new_data.items():
            if agent_id not in self.agent_episodes:
                raise KeyError(f"AgentID '{agent_id}' not found in this episode.")
            getattr(self.agent_episodes[agent_id], f"set_{what}")(new_data=new, **how)

    def set_observations(self, *, new_data: dict[Any, Any], **how: Any) -> None:
        """Write over observations by agent; indices are steps of the agent."""
        self._set("observations", new_data, **how)

    def set_actions(self, *, new_data: dict[Any, Any], **how: Any) -> None:
        """Write over actions by agent."""
        self._set("actions", new_data, **how)

    def set_rewards(self, *, new_data: dict[Any, Any], **how: Any) -> None:
        """Write over rewards by agent."""
        self._set("rewards", new_data, **how)

    def set_extra_model_outputs(self, *, key: str, new_data: dict[Any, Any], **how: Any) -> None:
        """Write over one column of what the modules gave, by agent."""
        self._set("extra_model_outputs", new_data, key=key, **how)

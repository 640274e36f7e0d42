"""Records of several agents by the environment's steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from hpc.rllib.env.agent_parts import SKIP
from hpc.rllib.env.utils.infinite_lookback_buffer import Indices, InfiniteLookbackBuffer
from hpc.rllib.utils.spaces.space_utils import batch, filled


class Lookup:
    """One kind of records of a `MultiAgentEpisode`: observations, infos, actions, rewards or what modules gave."""

    def __init__(self, episode: Any, what: str, key: str | None = None, *, one_hot_discrete: bool = False) -> None:
        self._episode = episode
        self._what = what
        self._key = key
        self._one_hot = one_hot_discrete
        #: Observations and infos have one more record than there are steps.
        self._before_and_after = what in ("observations", "infos")

    def get(
        self,
        indices: Indices = None,
        agent_ids: Any = None,
        *,
        env_steps: bool = True,
        neg_index_as_lookback: bool = False,
        fill: Any = None,
        return_list: bool = False,
    ) -> Any:
        """Records by agent.

        Args:
            indices: Steps: one, several, a range; all without it. Negative ones count from the end, or with
                ``neg_index_as_lookback`` back from the start.
            agent_ids: Agents that are wanted; all without it.
            env_steps: Whether indices are steps of the environment, as opposed to each agent's own.
            fill: What stands for records that are not there. Without it they are left out.
            return_list: Whether to return a dict by agent for each step, as opposed to lists by agent.
        """
        wanted = self._agents(agent_ids)
        if not env_steps:
            if return_list:
                raise ValueError(
                    f"`MultiAgentEpisode.get_{self._what}()` can't be called with both `env_steps=False` and "
                    "`return_list=True`!"
                )
            return self._by_agent_steps(wanted, indices, neg_index_as_lookback, fill)
        places = {agent_id: self._places(agent_id, indices, neg_index_as_lookback, fill) for agent_id in wanted}
        if return_list:
            return self._as_list(places, fill)
        out = {}
        for agent_id, found in places.items():
            if isinstance(found, list):
                values = [value for t in found if (value := self._value(agent_id, t, fill)) is not None]
                if values:
                    out[agent_id] = batch(values) if self._episode.agent_episodes[agent_id].is_numpy else values
            elif (value := self._value(agent_id, found, fill)) is not None:
                out[agent_id] = value
        return out

    def _agents(self, agent_ids: Any) -> list[Any]:
        present = list(self._episode.agent_episodes)
        if agent_ids is None:
            return present
        asked = agent_ids if isinstance(agent_ids, (list, tuple, set)) else [agent_ids]
        return [agent_id for agent_id in present if agent_id in asked]

    def _by_agent_steps(self, wanted: list[Any], indices: Indices, from_start: bool, fill: Any) -> dict[Any, Any]:
        out = {}
        for agent_id in wanted:
            buffer, hanging = self._buffer(agent_id), self._hanging(agent_id)
            if buffer is None:
                continue
            found = buffer.get(
                indices,
                neg_index_as_lookback=from_start,
                fill=fill,
                one_hot_discrete=self._one_hot,
                _add_last_ts_value=hanging,
            )
            if not (isinstance(found, list) and not found):
                out[agent_id] = found
        return out

    def _places(self, agent_id: Any, indices: Indices, from_start: bool, fill: Any) -> Any:
        """The agent's own steps at the environment's, or the mark of none."""
        mapping = self._episode.env_t_to_agent_t[agent_id]
        how = {"neg_index_as_lookback": from_start, "_ignore_last_ts": not self._before_and_after}
        if isinstance(indices, slice):
            return mapping.get(indices, fill=SKIP, **how) if fill is not None else mapping.get(indices, **how)
        return mapping.get(indices, fill=SKIP, **how) if indices is not None else mapping.get(**how)

    def _as_list(self, places: dict[Any, Any], fill: Any) -> list[dict[Any, Any]]:
        count = max((len(found) for found in places.values()), default=0)
        out: list[dict[Any, Any]] = [{} for _ in range(count)]
        for agent_id, found in places.items():
            for at, t in enumerate(found):
                value = self._value(agent_id, t, fill)
                if value is not None:
                    out[at][agent_id] = value
        return out

    def _buffer(self, agent_id: Any) -> Any:
        episode = self._episode.agent_episodes[agent_id]
        if self._what != "extra_model_outputs":
            return getattr(episode, self._what)
        return episode.extra_model_outputs.get(self._key)

    def _hanging(self, agent_id: Any) -> Any:
        episode = self._episode
        if agent_id not in episode._hanging_actions_end:
            return None
        if self._what == "actions":
            return episode._hanging_actions_end[agent_id]
        if self._what == "rewards":
            return episode._hanging_rewards_end.get(agent_id, 0.0)
        if self._what == "extra_model_outputs":
            extra = episode._hanging_extra_model_outputs_end.get(agent_id) or {}
            return extra or None if self._key is None else extra.get(self._key)
        return None

    def _value(self, agent_id: Any, t: Any, fill: Any) -> Any:
        """The record of an agent at its own step; None where there is none and nothing to fill with."""
        if isinstance(t, str):
            return None if fill is None else self._filled(agent_id, fill)
        episode = self._episode.agent_episodes[agent_id]
        at = int(t) - episode.t_started
        if self._what == "extra_model_outputs" and self._key is None:
            if at >= len(episode.rewards):
                return self._hanging(agent_id)
            extra = episode.extra_model_outputs
            return {key: buffer.get(at, neg_index_as_lookback=True) for key, buffer in extra.items()} or None
        buffer = self._buffer(agent_id)
        if buffer is None or at >= len(buffer):
            hanging = self._hanging(agent_id)
            return hanging if hanging is not None or fill is None else self._filled(agent_id, fill)
        return buffer.get(at, neg_index_as_lookback=True, one_hot_discrete=self._one_hot)

    def _filled(self, agent_id: Any, fill: Any) -> Any:
        buffer = self._buffer(agent_id)
        if buffer is None or buffer.space is None:
            return fill
        return (
            np.asarray(filled(buffer.space, fill, None, self._one_hot))
            if not self._is_nested(buffer)
            else filled(buffer.space, fill, None, self._one_hot)
        )

    @staticmethod
    def _is_nested(buffer: InfiniteLookbackBuffer) -> bool:
        return hasattr(buffer.space, "spaces")

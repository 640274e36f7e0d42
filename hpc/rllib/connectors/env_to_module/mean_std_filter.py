"""Observations with mean 0 and standard deviation 1, by what all runners saw so far."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from hpc.rllib.connectors.connector_v2 import Batch, ConnectorV2
from hpc.rllib.connectors.env_to_module.running_stat import RunningStat
from hpc.rllib.connectors.rows import Rows
from hpc.rllib.utils.spaces.space_utils import flatten_space, map_space
from hpc.rllib.utils.trees import leaves, map_tree, take

#: States that were taken, of which merges may come late: so many are remembered.
MOST_TOLD = 8


class MeanStdFilter(ConnectorV2):
    """Normalise Box observations by running mean and deviation; discrete parts stay as they are.

    Args:
        multi_agent: Whether spaces are Dicts by agent; each agent has figures of its own then.
        de_mean_to_zero: Whether to take the mean off.
        de_std_to_one: Whether to divide by the deviation.
        clip_by_value: Results lie between this and its negative; None for no bounds.
        update_stats: Whether what it sees changes its figures.
    """

    def __init__(
        self,
        input_observation_space: Any = None,
        input_action_space: Any = None,
        *,
        multi_agent: bool = False,
        de_mean_to_zero: bool = True,
        de_std_to_one: bool = True,
        clip_by_value: float | None = 10.0,
        update_stats: bool = True,
        **kwargs: Any,
    ) -> None:
        self._multi_agent = multi_agent
        self.de_mean_to_zero = de_mean_to_zero
        self.de_std_to_one = de_std_to_one
        self.clip_by_value = clip_by_value
        self._update_stats = update_stats
        #: By agent: figures of each part, None for a discrete one.
        self._stats: dict[Any, list[RunningStat | None]] = {}
        #: What was seen in the time that `_since` names, and the figures that were taken last.
        self._seen: dict[Any, list[RunningStat | None]] = {}
        self._base: dict[Any, list[RunningStat | None]] = {}
        #: What of that the merge has that was taken last.
        self._merged: dict[Any, list[RunningStat | None]] = {}
        self._source = uuid.uuid4().hex
        #: Names the time since figures were taken that have nothing of what was seen before.
        self._since = uuid.uuid4().hex
        #: What the merge that was taken last has of each source and agent, and what the one that was made last has.
        self._counted: dict[tuple[str, Any], _Counted] = {}
        #: What was seen as of each of the last states that were taken, by their numbers: a merge may have it, and come
        #: when more was seen.
        self._told: dict[int, dict[Any, list[RunningStat | None]]] = {}
        self._states = 0
        self._made: tuple[str, dict[tuple[str, Any], _Counted]] = ("", {})
        super().__init__(input_observation_space, input_action_space, **kwargs)

    # -------------------------------------------------------------- spaces

    def recompute_output_observation_space(self, input_observation_space: Any, input_action_space: Any) -> Any:
        """The same space, its Boxes between the bounds of `clip_by_value`."""
        bound = float("inf") if self.clip_by_value is None else self.clip_by_value

        def bounded(space: Any) -> Any:
            if isinstance(space, gym.spaces.Dict):
                return gym.spaces.Dict({key: bounded(part) for key, part in space.spaces.items()})
            if isinstance(space, gym.spaces.Tuple):
                return gym.spaces.Tuple([bounded(part) for part in space.spaces])
            return gym.spaces.Box(-bound, bound, space.shape, np.float32) if _is_box(space) else space

        return bounded(input_observation_space)

    def _space_of(self, space: Any, agent_id: Any) -> Any:
        return space[agent_id] if self._multi_agent else space

    def _key(self, agent_id: Any) -> Any:
        if self._multi_agent:
            return agent_id
        if agent_id is not None:
            raise KeyError(
                f"KeyError trying to access a filter by agent ID `{agent_id}`! You probably did NOT pass the "
                "`multi_agent=True` flag into the `MeanStdFilter()` constructor. "
            )
        return None

    def _fresh(self, agent_id: Any) -> list[RunningStat | None]:
        parts = flatten_space(self._space_of(self.input_observation_space, agent_id))
        return [RunningStat(part.shape) if _is_box(part) else None for part in parts]

    def _agents(self) -> list[Any]:
        return list(self.input_observation_space.spaces) if self._multi_agent else [None]

    # -------------------------------------------------------------- normalising

    def _normalised(self, obs: Any, agent_id: Any, valid: np.ndarray | None = None) -> Any:
        """Observations ``[N, ...]``, after what is new of them changed the figures."""
        key = self._key(agent_id)
        # A user's dicts may have their keys in another order than the space has.
        obs = map_space(lambda leaf, _: leaf, obs, self._space_of(self.input_observation_space, key))
        for table in (self._stats, self._seen):
            if key not in table:
                table[key] = self._fresh(key)
        if self._update_stats:
            new = obs if valid is None else take(obs, valid)
            for table in (self._stats, self._seen):
                for stat, leaf in zip(table[key], leaves(new)):
                    if stat is not None:
                        stat.add(np.asarray(leaf))
        stats = iter(self._stats[key])
        return map_space(
            lambda leaf, _: self._scaled(leaf, next(stats)), obs, self._space_of(self.input_observation_space, key)
        )

    def _scaled(self, leaf: Any, stat: RunningStat | None) -> Any:
        if stat is None:
            return leaf
        out = np.asarray(leaf, np.float64)
        if self.de_mean_to_zero:
            out = out - stat.mean_array
        if self.de_std_to_one:
            out = out / (stat.std + 1e-8)
        if self.clip_by_value is not None:
            out = np.clip(out, -self.clip_by_value, self.clip_by_value)
        return out.astype(np.float32)

    def on_rows(self, rows: Rows) -> None:
        """Normalise the observations of all environments."""
        rows.obs = self._normalised(rows.obs, rows.agent_id, rows.valid)

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
        """Normalise the last observation of each episode in place."""
        for episode in self.single_agent_episode_iterator(episodes):
            one = map_tree(lambda leaf: np.asarray(leaf)[None], episode.get_observations(-1))
            out = map_tree(lambda leaf: leaf[0], self._normalised(one, episode.agent_id))
            episode.set_observations(at_indices=-1, new_data=out)
            episode.observation_space = self._space_of(self.observation_space, episode.agent_id)
        return batch

    # -------------------------------------------------------------- state

    def _packed(self, key: Any, stats: list[RunningStat | None]) -> dict[str, Any]:
        seen = self._seen.get(key) or self._fresh(key)
        return {
            "shape": self._space_of(self.input_observation_space, key).shape,
            "de_mean_to_zero": self.de_mean_to_zero,
            "de_std_to_one": self.de_std_to_one,
            "clip_by_value": self.clip_by_value,
            "running_stats": [stat.to_state() if stat else None for stat in stats],
            "seen": [stat.to_state() if stat else None for stat in seen],
            "merged": [stat.to_state() if stat else None for stat in self._merged.get(key, ())],
            "source": self._source,
            "since": self._since,
            "number": self._states,
        }

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[Any, Any]:
        """The figures by agent (None without agents), those of what was seen, and what of it the last merge had."""
        self._states += 1
        self._told[self._states] = {key: _copied(stats) for key, stats in self._seen.items()}
        self._told.pop(self._states - MOST_TOLD, None)
        return {key: self._packed(key, self._stats.get(key) or self._fresh(key)) for key in self._agents()}

    def set_state(self, state: dict[Any, Any]) -> None:
        """Take figures, and what was seen after the state that they were merged of.

        Where they are of none of its states, nothing that was seen before counts."""
        if self._made[0] in {packed.get("merge") for packed in state.values()}:
            self._counted = self._made[1]
        numbers = [packed.get("numbers", {}).get(self._source, 0) for packed in state.values()]
        number = max(numbers, default=0)
        told = self._told.get(number)
        if told is None:
            self._since = uuid.uuid4().hex
            self._seen, self._told = {}, {}
            told = {}
        else:
            # That state may be merged again, and a merge of it may come twice.
            self._told = {at: stats for at, stats in self._told.items() if at >= number}
        self._merged = told
        for key, packed in state.items():
            unpacked = _unpacked(packed["running_stats"])
            self._base[key] = _copied(unpacked)
            later = _without(self._seen.get(key) or self._fresh(key), told.get(key))
            for stat, new in zip(unpacked, later):
                if stat is not None and new is not None:
                    stat.update(new)
            self._stats[key] = unpacked

    def reset_state(self) -> None:
        """Forget all figures.

        Raises:
            ValueError: it does not change its figures.
        """
        if not self._update_stats:
            raise ValueError(
                f"State of {type(self).__name__} can only be changed when `update_stats` was set to True: it is False."
            )
        self._stats, self._seen, self._base, self._told, self._merged = {}, {}, {}, {}, {}
        self._since = uuid.uuid4().hex

    def merge_states(self, states: list[dict[Any, Any]]) -> dict[Any, Any]:
        """The figures that all had last, and what each saw since; nothing is counted twice.

        A state may come late, when its runner has not taken the last merge yet, which has a part of it already.
        """
        sources = {packed["source"] for state in states for packed in state.values()}
        if self._source not in sources:
            own = self.get_state()
            states = [*states, {key: own[key] for key in self._seen}]
        counted = dict(self._counted)
        out = {}
        for key in self._agents():
            merged = [s.copy() if s else None for s in self._base.get(key) or self._fresh(key)]
            for packed in (state[key] for state in states if key in state):
                seen = _unpacked(packed["seen"])
                place, since = (packed["source"], key), packed.get("since", "")
                before = counted.get(place)
                known = before.seen if before is not None and before.since == since else None
                for stat, part in zip(merged, _without(seen, known or _unpacked(packed.get("merged", ())))):
                    if stat is not None and part is not None:
                        stat.update(part)
                counted[place] = _Counted(since, seen)
            out[key] = self._packed(key, merged)
        name = uuid.uuid4().hex
        self._made = (name, counted)
        numbers = {packed["source"]: packed.get("number", 0) for state in states for packed in state.values()}
        for packed in out.values():
            packed |= {"merge": name, "numbers": numbers}
        return out

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A copy sees other data.
        self.__dict__.update(state)
        self._source = uuid.uuid4().hex


@dataclass
class _Counted:
    """What merges have of a source: all that it saw in the time ``since``."""

    since: str
    seen: list[RunningStat | None]


def _copied(stats: list[RunningStat | None]) -> list[RunningStat | None]:
    return [stat.copy() if stat else None for stat in stats]


def _unpacked(parts: Collection[dict[str, Any] | None]) -> list[RunningStat | None]:
    return [RunningStat.from_state(part) if part else None for part in parts]


def _without(stats: list[RunningStat | None], told: list[RunningStat | None] | None) -> list[RunningStat | None]:
    """What was seen beside what had been seen when a state was taken; all of it if nothing had."""
    if not told:
        return stats
    return [stat.without(old) if stat is not None and old is not None else stat for stat, old in zip(stats, told)]


def _is_box(space: Any) -> bool:
    return isinstance(space, gym.spaces.Box)

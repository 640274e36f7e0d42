"""One agent's episode, or a chunk of it: observations, actions, rewards, and what the module said, step by step."""

from __future__ import annotations

import copy
import time
import uuid
from typing import Any, SupportsFloat

import numpy as np

from hpc.rllib.core.columns import Columns
from hpc.rllib.env.utils.infinite_lookback_buffer import Indices, InfiniteLookbackBuffer, _same
from hpc.rllib.utils.trees import map_tree, take

#: Columns of a fragment that an episode has under names of its own.
_OWN = (Columns.OBS, Columns.INFOS, Columns.ACTIONS, Columns.REWARDS, Columns.TERMINATEDS, Columns.TRUNCATEDS)
#: Columns of a fragment that say what its rows are.
_OF_ROWS = ("first", Columns.LOSS_MASK)


class SingleAgentEpisode:
    """The steps of one agent, with as many of before its start (the lookback) as it was cut with.

    Args:
        id_: Its name; drawn where none is given.
        observations: One more than actions: those of before each step, and the last one.
        terminated, truncated: How it ended, if it did.
        extra_model_outputs: What the module gave beside the actions, by column.
        t_started: How many steps of the episode come before this chunk.
        len_lookback_buffer: How many of the given steps are of before the start; "auto" takes all of them.
    """

    def __init__(
        self,
        id_: str | None = None,
        *,
        observations: Any = None,
        observation_space: Any = None,
        infos: Any = None,
        actions: Any = None,
        action_space: Any = None,
        rewards: Any = None,
        terminated: bool = False,
        truncated: bool = False,
        extra_model_outputs: dict[str, Any] | None = None,
        t_started: int | None = None,
        len_lookback_buffer: int | str = "auto",
        agent_id: Any = None,
        module_id: str | None = None,
        multi_agent_episode_id: Any = None,
    ) -> None:
        self.id_ = id_ or uuid.uuid4().hex
        self.agent_id = agent_id
        self.module_id = module_id
        self.multi_agent_episode_id = multi_agent_episode_id
        given = len(rewards) if rewards is not None else 0
        lookback = given if len_lookback_buffer == "auto" else min(int(len_lookback_buffer), given)

        def column(data: Any, space: Any = None) -> InfiniteLookbackBuffer:
            return data if isinstance(data, InfiniteLookbackBuffer) else InfiniteLookbackBuffer(data, lookback, space)

        self.observations = column(observations)
        if not infos:
            infos = [{} for _ in range(self.observations.len_incl_lookback())]
            if isinstance(observations, InfiniteLookbackBuffer):
                infos = InfiniteLookbackBuffer(infos, observations.lookback)
        self.infos = column(infos)
        self.actions = column(actions)
        self.rewards = column(rewards)
        self.observation_space = observation_space
        self.action_space = action_space
        self.is_terminated = terminated
        self.is_truncated = truncated
        self.extra_model_outputs = {key: column(data) for key, data in (extra_model_outputs or {}).items()}
        self.t_started = t_started or 0
        self.t = len(self.rewards) + self.t_started
        self._custom_data: dict[str, Any] = {}
        self._start_time: float | None = None
        self._last_step_time: float | None = None
        self._last_added_observation: Any = None
        self._last_added_infos: Any = None
        self.validate()

    # -------------------------------------------------------------- growing

    def add_env_reset(self, observation: Any, infos: dict[str, Any] | None = None) -> None:
        """Add the observation that the environment began with."""
        assert not self.is_reset, "the episode has its first observation already"
        assert not self.is_done, "the episode is done"
        assert self.t == self.t_started == 0, "only the first chunk of an episode begins with a reset"
        self.observations.append(observation)
        self.infos.append(infos or {})
        self._last_added_observation, self._last_added_infos = observation, infos or {}
        self._start_time = time.perf_counter()

    def add_env_step(
        self,
        observation: Any,
        action: Any,
        reward: SupportsFloat,
        infos: dict[str, Any] | None = None,
        *,
        terminated: bool = False,
        truncated: bool = False,
        extra_model_outputs: dict[str, Any] | None = None,
    ) -> None:
        """Add a step: the action, and the observation and reward that it led to."""
        assert not self.is_done, "The agent is already done: no data can be added to its episode."
        self.observations.append(observation)
        self.actions.append(action)
        self.rewards.append(reward)
        self.infos.append(infos or {})
        self.t += 1
        self._add_outputs(extra_model_outputs or {})
        self.is_terminated, self.is_truncated = terminated, truncated
        self._last_added_observation, self._last_added_infos = observation, infos or {}
        self._last_step_time = time.perf_counter()
        if self._start_time is None:
            self._start_time = self._last_step_time

    def _add_outputs(self, outputs: dict[str, Any]) -> None:
        """Add what the module gave; outputs that a step has not (its action was drawn without the module) are 0."""
        for key, column in self.extra_model_outputs.items():
            if key not in outputs and column.len_incl_lookback():
                column.append(map_tree(np.zeros_like, map_tree(np.asarray, column.get(-1))))
        for key, value in outputs.items():
            if key in self.extra_model_outputs:
                self.extra_model_outputs[key].append(value)
                continue
            missed = [map_tree(np.zeros_like, map_tree(np.asarray, value)) for _ in range(len(self.rewards) - 1)]
            self.extra_model_outputs[key] = InfiniteLookbackBuffer([*missed, value])
            if self.is_numpy:
                self.extra_model_outputs[key].finalize()

    def validate(self) -> None:
        """Hold that all columns have as many records as the episode has steps."""
        observations, steps = len(self.observations), len(self.rewards)
        assert observations == len(self.infos), f"{observations} observations, but {len(self.infos)} infos"
        wanted = max(observations - 1, 0)
        assert steps == len(self.actions) == wanted, (
            f"{observations} observations need {wanted} actions and rewards: there are {len(self.actions)} and {steps}"
        )
        for key, value in self.extra_model_outputs.items():
            assert len(value) == wanted, f"{key} has {len(value)} records for {wanted} steps"

    def to_numpy(self) -> SingleAgentEpisode:
        """Make arrays of the lists of records, in place."""
        self.validate()
        self.observations.finalize()
        if len(self):
            for column in (self.actions, self.rewards, *self.extra_model_outputs.values()):
                column.finalize()
        return self

    def concat_episode(self, other: SingleAgentEpisode) -> None:
        """Add the chunk that follows this one."""
        assert other.id_ == self.id_, "chunks of different episodes: their ids differ"
        assert not self.is_done, "a done episode has no further chunk"
        assert self.t == other.t_started, f"self.t={self.t!r}, other.t_started={other.t_started!r}"
        assert _same(other.observations[0], self.observations[-1]), "the chunk does not begin where this one ends"
        self.observations.pop()
        self.infos.pop()
        self.observations.extend(other.get_observations())
        self.infos.extend(other.get_infos())
        self.actions.extend(other.get_actions())
        self.rewards.extend(other.get_rewards())
        self.t = other.t
        self.is_terminated, self.is_truncated = other.is_terminated, other.is_truncated
        for key in other.extra_model_outputs:
            assert key in self.extra_model_outputs, f"the first chunk has no {key}"
            self.extra_model_outputs[key].extend(other.get_extra_model_outputs(key))
        self.custom_data.update(other.custom_data)
        self.validate()

    def cut(self, len_lookback_buffer: int = 0) -> SingleAgentEpisode:
        """The episode's next chunk: no steps yet, and the last ones of this one to look back at."""
        assert not self.is_done and len_lookback_buffer >= 0
        tail = slice(-len_lookback_buffer - 1, None)
        rest = slice(-len_lookback_buffer, None) if len_lookback_buffer else slice(None, 0)
        chunk = SingleAgentEpisode(
            id_=self.id_,
            observations=self.get_observations(tail),
            observation_space=self.observation_space,
            infos=self.get_infos(tail),
            actions=self.get_actions(rest),
            action_space=self.action_space,
            rewards=self.get_rewards(rest),
            extra_model_outputs={key: self.get_extra_model_outputs(key, rest) for key in self.extra_model_outputs},
            t_started=self.t,
            agent_id=self.agent_id,
            module_id=self.module_id,
            multi_agent_episode_id=self.multi_agent_episode_id,
        )
        chunk._custom_data = copy.deepcopy(self.custom_data)
        chunk._last_added_observation, chunk._last_added_infos = self.get_observations(-1), self.get_infos(-1)
        return chunk

    # -------------------------------------------------------------- reading and writing

    def get_observations(
        self,
        indices: Indices = None,
        *,
        neg_index_as_lookback: bool = False,
        fill: Any = None,
        one_hot_discrete: bool = False,
    ) -> Any:
        """Observations at an index, at several, or in a range (see `InfiniteLookbackBuffer.get`)."""
        return self.observations.get(
            indices, neg_index_as_lookback=neg_index_as_lookback, fill=fill, one_hot_discrete=one_hot_discrete
        )

    def get_infos(self, indices: Indices = None, *, neg_index_as_lookback: bool = False, fill: Any = None) -> Any:
        """Infos at an index, at several, or in a range."""
        return self.infos.get(indices, neg_index_as_lookback=neg_index_as_lookback, fill=fill)

    def get_actions(
        self,
        indices: Indices = None,
        *,
        neg_index_as_lookback: bool = False,
        fill: Any = None,
        one_hot_discrete: bool = False,
    ) -> Any:
        """Actions of the module at an index, at several, or in a range."""
        return self.actions.get(
            indices, neg_index_as_lookback=neg_index_as_lookback, fill=fill, one_hot_discrete=one_hot_discrete
        )

    def get_rewards(self, indices: Indices = None, *, neg_index_as_lookback: bool = False, fill: Any = None) -> Any:
        """Rewards at an index, at several, or in a range."""
        return self.rewards.get(indices, neg_index_as_lookback=neg_index_as_lookback, fill=fill)

    def get_extra_model_outputs(
        self, key: str, indices: Indices = None, *, neg_index_as_lookback: bool = False, fill: Any = None
    ) -> Any:
        """What the module gave beside the actions, of one column."""
        return self.extra_model_outputs[key].get(indices, neg_index_as_lookback=neg_index_as_lookback, fill=fill)

    def set_observations(
        self, *, new_data: Any, at_indices: Indices = None, neg_index_as_lookback: bool = False
    ) -> None:
        """Write over observations."""
        self.observations.set(new_data, at_indices=at_indices, neg_index_as_lookback=neg_index_as_lookback)

    def set_actions(self, *, new_data: Any, at_indices: Indices = None, neg_index_as_lookback: bool = False) -> None:
        """Write over actions."""
        self.actions.set(new_data, at_indices=at_indices, neg_index_as_lookback=neg_index_as_lookback)

    def set_rewards(self, *, new_data: Any, at_indices: Indices = None, neg_index_as_lookback: bool = False) -> None:
        """Write over rewards."""
        self.rewards.set(new_data, at_indices=at_indices, neg_index_as_lookback=neg_index_as_lookback)

    def set_extra_model_outputs(
        self, *, key: str, new_data: Any, at_indices: Indices = None, neg_index_as_lookback: bool = False
    ) -> None:
        """Write over a column of what the module gave."""
        assert key in self.extra_model_outputs, f"the episode has no {key}: it has {sorted(self.extra_model_outputs)}"
        self.extra_model_outputs[key].set(new_data, at_indices=at_indices, neg_index_as_lookback=neg_index_as_lookback)

    def slice(self, slice_: slice, *, len_lookback_buffer: int | None = None) -> SingleAgentEpisode:
        """A range of its steps, with as long a lookback as it has itself, or as is asked for and there."""
        start, stop, step = slice_.indices(len(self))

        def part(column: InfiniteLookbackBuffer, last: int) -> InfiniteLookbackBuffer:
            wanted = column.lookback if len_lookback_buffer is None else len_lookback_buffer
            lookback = min(wanted, column.lookback + start)
            data = column.get(slice(start - lookback, stop + last, step), neg_index_as_lookback=True)
            return InfiniteLookbackBuffer(data, lookback, column.space)

        ends = stop == len(self)
        return SingleAgentEpisode(
            id_=self.id_,
            observations=part(self.observations, 1),
            observation_space=self.observation_space,
            infos=part(self.infos, 1),
            actions=part(self.actions, 0),
            action_space=self.action_space,
            rewards=part(self.rewards, 0),
            extra_model_outputs={key: part(column, 0) for key, column in self.extra_model_outputs.items()},
            terminated=self.is_terminated and ends,
            truncated=self.is_truncated and ends,
            t_started=self.t_started + start,
            agent_id=self.agent_id,
            module_id=self.module_id,
            multi_agent_episode_id=self.multi_agent_episode_id,
        )

    def __getitem__(self, item: Any) -> SingleAgentEpisode:
        if not isinstance(item, slice):
            raise NotImplementedError(
                f"SingleAgentEpisode does not support getting item '{item}'! "
                "Only slice objects allowed with the syntax: `episode[a:b]`."
            )
        return self.slice(item)

    # -------------------------------------------------------------- facts

    @property
    def custom_data(self) -> dict[str, Any]:
        """What users keep with the episode; a cut carries it over."""
        return self._custom_data

    @property
    def is_reset(self) -> bool:
        """Whether it has its first observation."""
        return len(self.observations) > 0

    @property
    def is_numpy(self) -> bool:
        """Whether its records are arrays."""
        return self.rewards.finalized

    @property
    def is_done(self) -> bool:
        """Whether it ended, terminated or truncated."""
        return bool(self.is_terminated or self.is_truncated)

    @property
    def observation_space(self) -> Any:
        """The space of its observations, if it is known."""
        return self._observation_space

    @observation_space.setter
    def observation_space(self, value: Any) -> None:
        self._observation_space = self.observations.space = value

    @property
    def action_space(self) -> Any:
        """The space of its actions, if it is known."""
        return self._action_space

    @action_space.setter
    def action_space(self, value: Any) -> None:
        self._action_space = self.actions.space = value

    def __len__(self) -> int:
        return self.t - self.t_started

    def __repr__(self) -> str:
        return f"SAEps(len={len(self)} done={self.is_done} R={self.get_return()} id_={self.id_})"

    def get_return(self) -> float:
        """The sum of this chunk's rewards."""
        total: float = sum(self.get_rewards())
        return total

    def get_duration_s(self) -> float:
        """Seconds from the first observation to the last step."""
        if self._last_step_time is None or self._start_time is None:
            return 0.0
        return self._last_step_time - self._start_time

    def env_steps(self) -> int:
        """How many steps this chunk has."""
        return len(self)

    def agent_steps(self) -> int:
        """How many steps the agent made: those of the environment."""
        return len(self)

    def get_data_dict(self) -> dict[str, Any]:
        """Its columns, each with one record per step."""
        steps = len(self)
        flags = [False] * max(steps - 1, 0)
        out: dict[str, Any] = {
            Columns.TERMINATEDS: flags + [self.is_terminated],
            Columns.TRUNCATEDS: flags + [self.is_truncated],
            Columns.T: list(range(self.t_started, self.t)),
            Columns.EPS_ID: [self.id_] * steps,
        }
        if self.is_numpy:
            out = {key: np.array(value) for key, value in out.items()}
        out[Columns.OBS] = self.get_observations(slice(None, -1))
        out[Columns.INFOS] = self.get_infos(slice(None, -1))
        out[Columns.ACTIONS] = self.get_actions()
        out[Columns.REWARDS] = self.get_rewards()
        return out | {key: self.get_extra_model_outputs(key) for key in self.extra_model_outputs}

    # -------------------------------------------------------------- arrays and state

    @classmethod
    def of_fragment(cls, fragment: Any, column: int, start: int, stop: int) -> SingleAgentEpisode:
        """The steps of one column of a fragment from row ``start`` to before ``stop``, as views of its arrays."""
        rows, rows_and_last = (slice(start, stop), column), (slice(start, stop + 1), column)
        extra = {}
        for key, data in fragment.columns.items():
            if key not in _OWN and key not in _OF_ROWS:
                extra[key] = InfiniteLookbackBuffer(take(data, rows))
        before = int(fragment.t_start[column]) if fragment.t_start is not None else 0
        first = np.flatnonzero(fragment.first[: start + 1, column])
        infos = fragment.get(Columns.INFOS)
        episode = cls(
            fragment.episode_id(column, start),
            observations=InfiniteLookbackBuffer(take(fragment[Columns.OBS], rows_and_last)),
            infos=None if infos is None else InfiniteLookbackBuffer(list(infos[rows_and_last])),
            actions=InfiniteLookbackBuffer(take(fragment[Columns.ACTIONS], rows)),
            rewards=InfiniteLookbackBuffer(fragment[Columns.REWARDS][rows]),
            terminated=bool(fragment[Columns.TERMINATEDS][stop - 1, column]),
            truncated=bool(fragment[Columns.TRUNCATEDS][stop - 1, column]),
            extra_model_outputs=extra,
            t_started=start - int(first[-1]) if len(first) else before + start,
        )
        if fragment.owners:
            env, episode.agent_id = fragment.owners[column]
            number = 0 if fragment.number is None else int(fragment.number[column])
            episode.multi_agent_episode_id = f"{fragment.name}-{env}-{number}"
        return episode

    def columns(self) -> dict[str, Any]:
        """Its steps as arrays of a fragment's column, observations with the last one."""
        whole = self if self.is_numpy else copy.deepcopy(self).to_numpy()
        steps = len(whole)
        ends = np.arange(steps) == steps - 1
        out = {
            Columns.OBS: whole.get_observations(),
            Columns.ACTIONS: whole.get_actions(),
            Columns.REWARDS: np.asarray(whole.get_rewards(), np.float32),
            Columns.TERMINATEDS: ends & bool(self.is_terminated),
            Columns.TRUNCATEDS: ends & bool(self.is_truncated),
        }
        return out | {
            key: map_tree(np.asarray, whole.get_extra_model_outputs(key)) for key in whole.extra_model_outputs
        }

    def get_state(self) -> dict[str, Any]:
        """All it holds, to be pickled."""
        return {
            "id_": self.id_,
            "agent_id": self.agent_id,
            "module_id": self.module_id,
            "multi_agent_episode_id": self.multi_agent_episode_id,
            "observations": self.observations.get_state(),
            "actions": self.actions.get_state(),
            "rewards": self.rewards.get_state(),
            "infos": self.infos.get_state(),
            "extra_model_outputs": {key: column.get_state() for key, column in self.extra_model_outputs.items()}
            or None,
            "is_terminated": self.is_terminated,
            "is_truncated": self.is_truncated,
            "t_started": self.t_started,
            "t": self.t,
            "_observation_space": self._observation_space,
            "_action_space": self._action_space,
            "_start_time": self._start_time,
            "_last_step_time": self._last_step_time,
            "custom_data": self.custom_data,
        }

    @staticmethod
    def from_state(state: dict[str, Any]) -> SingleAgentEpisode:
        """An episode from what `get_state` gave."""
        made = InfiniteLookbackBuffer.from_state
        episode = SingleAgentEpisode(
            state["id_"],
            observations=made(state["observations"]),
            infos=made(state["infos"]),
            actions=made(state["actions"]),
            rewards=made(state["rewards"]),
            observation_space=state["_observation_space"],
            action_space=state["_action_space"],
            terminated=state["is_terminated"],
            truncated=state["is_truncated"],
            extra_model_outputs={key: made(part) for key, part in (state["extra_model_outputs"] or {}).items()},
            t_started=state["t_started"],
            agent_id=state["agent_id"],
            module_id=state["module_id"],
            multi_agent_episode_id=state["multi_agent_episode_id"],
        )
        episode._start_time, episode._last_step_time = state["_start_time"], state["_last_step_time"]
        episode._custom_data = state.get("custom_data", {})
        return episode

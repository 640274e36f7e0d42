"""An episode of several agents: an episode of each, and which steps of the environment its steps belong to."""

from __future__ import annotations

import copy
import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from hpc.rllib.env.agent_lookup import Lookup
from hpc.rllib.env.agent_parts import (
    ALL,
    SKIP,
    MultiAgentEnvError,
    default_mapping,
    look_back,
    picture,
    renumbered,
    space_of,
)
from hpc.rllib.env.agent_writing import Writable
from hpc.rllib.env.single_agent_episode import SingleAgentEpisode
from hpc.rllib.env.utils.infinite_lookback_buffer import Indices, InfiniteLookbackBuffer


class MultiAgentEpisode(Writable):
    """The steps of an environment with several agents.

    An agent that acted and has no observation yet has a hanging action. Its step is added when the observation comes,
    with all rewards of between. Indices of getters are steps of the environment, or of each agent with
    ``env_steps=False``.

    Args:
        id_: Its name; drawn where none is given.
        observations: A dict by agent for each step of the environment, one more than actions.
        terminateds, truncateds: Dicts by agent with "__all__".
        env_t_started: How many steps of the environment come before this chunk.
        len_lookback_buffer: How many of the given steps are of before the start; "auto" takes all of them.
        agent_to_module_mapping_fn: Gives the module of an agent and this episode.
    """

    SKIP_ENV_TS_TAG = SKIP

    def __init__(
        self,
        id_: str | None = None,
        *,
        observations: list[dict[Any, Any]] | None = None,
        observation_space: Any = None,
        infos: list[dict[Any, Any]] | None = None,
        actions: list[dict[Any, Any]] | None = None,
        action_space: Any = None,
        rewards: list[dict[Any, Any]] | None = None,
        terminateds: Any = False,
        truncateds: Any = False,
        extra_model_outputs: list[dict[Any, Any]] | None = None,
        env_t_started: int | None = None,
        agent_t_started: dict[Any, int] | None = None,
        len_lookback_buffer: int | str = "auto",
        agent_episode_ids: dict[Any, str] | None = None,
        agent_module_ids: dict[Any, str] | None = None,
        agent_to_module_mapping_fn: Callable[..., str] | None = None,
    ) -> None:
        self.id_ = id_ or uuid.uuid4().hex
        self.agent_to_module_mapping_fn = agent_to_module_mapping_fn or default_mapping
        self._agent_to_module_mapping: dict[Any, str] = dict(agent_module_ids or {})
        self._agent_episode_ids = dict(agent_episode_ids or {})
        given = len(rewards or [])
        self._len_lookback_buffers = given if len_lookback_buffer == "auto" else min(int(len_lookback_buffer), given)
        self.observation_space = observation_space or {}
        self.action_space = action_space or {}
        self.env_t_started = env_t_started or 0
        self.env_t = self.env_t_started
        self.agent_t_started: dict[Any, int] = defaultdict(int, agent_t_started or {})
        self.env_t_to_agent_t: dict[Any, InfiniteLookbackBuffer] = {}
        self.agent_episodes: dict[Any, SingleAgentEpisode] = {}
        self._hanging_actions_end: dict[Any, Any] = {}
        self._hanging_extra_model_outputs_end: dict[Any, Any] = {}
        self._hanging_rewards_end: dict[Any, float] = defaultdict(float)
        self._hanging_rewards_begin: dict[Any, float] = defaultdict(float)
        self.is_terminated = self.is_truncated = False
        self._custom_data: dict[str, Any] = {}
        self._start_time: float | None = None
        self._last_step_time: float | None = None
        self._stepped: set[Any] = set()
        if observations:
            self._replay(
                observations, infos, actions or [], rewards or [], terminateds, truncateds, extra_model_outputs
            )

    def _replay(
        self,
        observations: list[dict[Any, Any]],
        infos: list[dict[Any, Any]] | None,
        actions: list[dict[Any, Any]],
        rewards: list[dict[Any, Any]],
        terminateds: Any,
        truncateds: Any,
        extra: list[dict[Any, Any]] | None,
    ) -> None:
        """Add the steps that the constructor was given, then call the first of them the lookback."""
        started, lookback = self.env_t_started, self._len_lookback_buffers
        agent_started, self.agent_t_started = self.agent_t_started, defaultdict(int)
        self.env_t_started = self.env_t = 0
        self.add_env_reset(observations=observations[0], infos=(infos or [{}])[0])
        last = len(observations) - 2
        ends = {ALL: terminateds} if isinstance(terminateds, bool) else terminateds
        cuts = {ALL: truncateds} if isinstance(truncateds, bool) else truncateds
        for at, seen in enumerate(observations[1:]):
            self.add_env_step(
                seen,
                actions[at],
                rewards[at],
                infos[at + 1] if infos else None,
                terminateds=ends if at == last else None,
                truncateds=cuts if at == last else None,
                extra_model_outputs=extra[at] if extra else None,
            )
        if last < 0:
            self.is_terminated, self.is_truncated = bool(ends.get(ALL)), bool(cuts.get(ALL))
        self.env_t_started, self.env_t = started, started + len(observations) - 1 - lookback
        self.agent_t_started = agent_started
        for agent_id, episode in self.agent_episodes.items():
            mapping = self.env_t_to_agent_t[agent_id]
            before = sum(1 for t in mapping.data[:lookback] if t != SKIP)
            mapping.lookback = lookback
            look_back(episode, min(before, len(episode.rewards)))
            begun = self.agent_t_started[agent_id]
            episode.t_started = begun
            episode.t = begun + len(episode.rewards)
            first = begun - episode.observations.lookback
            mapping.data = renumbered(mapping.data, first)

    # -------------------------------------------------------------- growing

    def _new_agent(self, agent_id: Any) -> SingleAgentEpisode:
        return SingleAgentEpisode(
            self._agent_episode_ids.get(agent_id),
            agent_id=agent_id,
            module_id=self.module_for(agent_id),
            multi_agent_episode_id=self.id_,
            observation_space=space_of(self.observation_space, agent_id),
            action_space=space_of(self.action_space, agent_id),
        )

    def add_env_reset(self, *, observations: dict[Any, Any], infos: dict[Any, Any] | None = None) -> None:
        """Add the observations that the environment began with."""
        assert not self.is_done, "the episode is done"
        assert self.env_t == self.env_t_started == 0, "only the first chunk of an episode begins with a reset"
        for agent_id, observation in observations.items():
            self.env_t_to_agent_t[agent_id] = InfiniteLookbackBuffer([0])
            self.agent_episodes[agent_id] = self._new_agent(agent_id)
            self.agent_episodes[agent_id].add_env_reset(observation, (infos or {}).get(agent_id))
        self._stepped = set(observations)
        self._start_time = time.perf_counter()

    def add_env_step(
        self,
        observations: dict[Any, Any],
        actions: dict[Any, Any],
        rewards: dict[Any, Any],
        infos: dict[Any, Any] | None = None,
        *,
        terminateds: dict[Any, bool] | None = None,
        truncateds: dict[Any, bool] | None = None,
        extra_model_outputs: dict[Any, Any] | None = None,
    ) -> None:
        """Add a step of the environment.

        An agent's own flags count before "__all__": what a truncated one sees last has a value, though all are done.

        Raises:
            MultiAgentEnvError: the episode or an agent is done, an agent that acted has no reward, or one that was
                truncated has no last observation.
        """
        if self.is_done:
            raise MultiAgentEnvError("Cannot call `add_env_step` on a MultiAgentEpisode that is already done!")
        infos, extra = infos or {}, extra_model_outputs or {}
        ends, cuts = terminateds or {}, truncateds or {}
        self.env_t += 1
        self.is_terminated, self.is_truncated = bool(ends.get(ALL)), bool(cuts.get(ALL))
        done = {agent_id for agent_id, episode in self.agent_episodes.items() if episode.is_done}
        done |= {agent_id for flags in (ends, cuts) for agent_id, flag in flags.items() if flag}
        # An agent whose first observation comes now goes on, when the others are done.
        everyone_done = self.agent_episodes and done.issuperset({*self.agent_episodes, *observations})
        if everyone_done and not self.is_truncated:
            self.is_terminated = True
        for agent_id, mapping in self.env_t_to_agent_t.items():
            if agent_id not in observations:
                mapping.append(SKIP)
        concerned = dict.fromkeys([*observations, *actions, *rewards, *ends, *cuts])
        if ends.get(ALL) or cuts.get(ALL):
            concerned.update(dict.fromkeys(self.agent_episodes))
        concerned.pop(ALL, None)
        for agent_id in concerned:
            flags = bool(ends.get(agent_id)), bool(cuts.get(agent_id))
            if not any(flags):
                flags = bool(ends.get(ALL)), bool(cuts.get(ALL))
            self._add_agent_step(
                agent_id,
                observations.get(agent_id),
                actions.get(agent_id),
                rewards.get(agent_id),
                infos.get(agent_id),
                extra.get(agent_id),
                *flags,
                agent_id in rewards,
            )
        self._stepped = set(observations)
        self._last_step_time = time.perf_counter()
        if self._start_time is None:
            self._start_time = self._last_step_time

    def _add_agent_step(
        self,
        agent_id: Any,
        observation: Any,
        action: Any,
        reward: Any,
        info: Any,
        extra: Any,
        terminated: bool,
        truncated: bool,
        has_reward: bool,
    ) -> None:
        episode = self.agent_episodes.get(agent_id)
        if episode is not None and episode.is_done:
            if any(value is not None for value in (observation, action, reward, info, extra)):
                raise MultiAgentEnvError(
                    f"Agent {agent_id} already had its `SingleAgentEpisode.is_done` set to True, but still received "
                    "data in "
                    f"a following step! obs={observation} act={action} rew={reward} info={info} "
                    f"extra_model_outputs={extra}."
                )
            return
        reward = 0.0 if reward is None else reward
        if action is not None and observation is not None and not has_reward:
            raise MultiAgentEnvError(
                f"Agent {agent_id} acted (and received next obs), but did NOT receive any reward from the env!"
            )
        if (
            action is None
            and agent_id in self._hanging_actions_end
            and (observation is not None or terminated or truncated)
        ):
            action = self._hanging_actions_end.pop(agent_id)
            extra = self._hanging_extra_model_outputs_end.pop(agent_id, None)
            reward += self._hanging_rewards_end.pop(agent_id, 0.0)
        if action is None:
            self._no_action(agent_id, episode, observation, reward, info, terminated or truncated)
            return
        assert episode is not None, f"agent {agent_id} acts before its first observation"
        if observation is None:
            if truncated:
                raise MultiAgentEnvError(
                    f"Agent {agent_id} acted and then got truncated, but did NOT receive a last (truncation) "
                    "observation, "
                    "required for e.g. value function bootstrapping!"
                )
            if not terminated:
                self._hanging_actions_end[agent_id] = action
                self._hanging_extra_model_outputs_end[agent_id] = extra
                self._hanging_rewards_end[agent_id] += reward
                return
            # A terminated agent's last observation has no value: the one that it acted on stands in.
            observation, info = episode._last_added_observation, episode._last_added_infos
        episode.add_env_step(
            observation,
            action,
            reward,
            info,
            terminated=terminated,
            truncated=truncated,
            extra_model_outputs=extra,
        )
        mapping = self.env_t_to_agent_t[agent_id]
        if mapping.len_incl_lookback() > self._env_rows():
            mapping.data[-1] = episode.t
        else:
            mapping.append(episode.t)
        if terminated or truncated:
            self._del_hanging(agent_id)

    def _env_rows(self) -> int:
        """How many entries a mapping has before this step's is added."""
        return self.env_t - self.env_t_started + self._len_lookback_buffers

    def _no_action(
        self, agent_id: Any, episode: SingleAgentEpisode | None, observation: Any, reward: Any, info: Any, done: bool
    ) -> None:
        """Take what came for an agent that has not acted: its first observation, a reward, or its end."""
        if episode is not None:
            if done:
                self._del_hanging(agent_id)
            else:
                self._hanging_rewards_end[agent_id] += reward
            return
        if observation is None or done:
            if done:
                self._del_hanging(agent_id)
            else:
                self._hanging_rewards_begin[agent_id] += reward
            return
        fresh = self._new_agent(agent_id)
        fresh.add_env_reset(observation, info)
        self.agent_episodes[agent_id] = fresh
        skipped: list[Any] = [SKIP] * self._env_rows()
        self.env_t_to_agent_t[agent_id] = InfiniteLookbackBuffer([*skipped, 0], self._len_lookback_buffers)
        self._hanging_rewards_begin[agent_id] += reward

    def _del_hanging(self, agent_id: Any) -> None:
        for hanging in (
            self._hanging_rewards_begin,
            self._hanging_actions_end,
            self._hanging_extra_model_outputs_end,
            self._hanging_rewards_end,
        ):
            hanging.pop(agent_id, None)

    def validate(self) -> None:
        """Hold that the columns of each agent have as many records as it has steps."""
        for episode in self.agent_episodes.values():
            episode.validate()

    def to_numpy(self) -> MultiAgentEpisode:
        """Make arrays of all agents' records, in place."""
        for episode in self.agent_episodes.values():
            episode.to_numpy()
        return self

    def concat_episode(self, other: MultiAgentEpisode) -> None:
        """Add the chunk that follows this one."""
        assert other.id_ == self.id_, "chunks of different episodes: their ids differ"
        assert not self.is_done, "a done episode has no further chunk"
        assert self.env_t == other.env_t_started, f"self.env_t={self.env_t}, other.env_t_started={other.env_t_started}"
        rows = self._env_rows() + 1
        for agent_id, theirs in other.agent_episodes.items():
            own = self.agent_episodes.get(agent_id)
            entries = other.env_t_to_agent_t[agent_id].get()
            if own is None:
                self.agent_episodes[agent_id] = theirs
                self.agent_t_started[agent_id] = other.agent_t_started[agent_id]
                skipped: list[Any] = [SKIP] * (rows - 1)
                self.env_t_to_agent_t[agent_id] = InfiniteLookbackBuffer(
                    [*skipped, *entries], self._len_lookback_buffers
                )
            elif own.is_done:
                continue
            else:
                own.concat_episode(theirs)
                self.env_t_to_agent_t[agent_id].extend(list(entries[1:]))
            self._del_hanging(agent_id)
        self._copy_hanging(other)
        self.env_t = other.env_t
        self.is_terminated, self.is_truncated = other.is_terminated, other.is_truncated
        self._stepped = set(other._stepped)
        self.custom_data.update(other.custom_data)
        self.validate()

    def _copy_hanging(self, other: MultiAgentEpisode) -> None:
        self._hanging_actions_end.update(copy.deepcopy(other._hanging_actions_end))
        self._hanging_extra_model_outputs_end.update(copy.deepcopy(other._hanging_extra_model_outputs_end))
        self._hanging_rewards_end.update(other._hanging_rewards_end)
        self._hanging_rewards_begin.update(other._hanging_rewards_begin)

    def cut(self, len_lookback_buffer: int = 0) -> MultiAgentEpisode:
        """The episode's next chunk: no steps yet, and the last ones of this one to look back at.

        Hanging actions go on in it, with the rewards that they have so far.
        """
        assert len_lookback_buffer >= 0
        if self.is_done:
            raise RuntimeError("Can't call `MultiAgentEpisode.cut()` when the episode is already done!")
        rows = self._env_rows()
        for agent_id in self._hanging_actions_end:
            # The observation that a hanging action answers is to be looked back at.
            entries = self.env_t_to_agent_t[agent_id].data
            answered = max(at for at, entry in enumerate(entries) if entry != SKIP)
            len_lookback_buffer = max(len_lookback_buffer, rows - answered)
        lookback = min(len_lookback_buffer, rows)
        chunk = self._empty_like(self.env_t, lookback)
        for agent_id, episode in self.agent_episodes.items():
            if episode.is_done:
                continue
            tail = self.env_t_to_agent_t[agent_id].data[-lookback - 1 :]
            before = (
                sum(1 for t in tail[:-1] if t != SKIP) if tail[-1] != SKIP else sum(1 for t in tail if t != SKIP) - 1
            )
            kept = min(max(before, 0), episode.rewards.len_incl_lookback())
            chunk._adopt(agent_id, episode.cut(kept), list(tail))
        chunk._copy_hanging(self)
        chunk._stepped = self._stepped & set(chunk.agent_episodes)
        chunk._custom_data = copy.deepcopy(self.custom_data)
        return chunk

    def lookback_for(self, steps: int) -> int:
        """The lookback to cut with, so that each agent that goes on has so many steps of its own to look back at."""
        rows = 0
        for agent_id, episode in self.agent_episodes.items():
            if steps and not episode.is_done:
                entries = self.env_t_to_agent_t[agent_id].data
                places = [at for at, entry in enumerate(entries) if entry != SKIP]
                rows = max(rows, len(entries) - 1 - places[max(len(places) - 1 - steps, 0)])
        return rows

    def _empty_like(self, env_t_started: int, lookback: int) -> MultiAgentEpisode:
        out = MultiAgentEpisode(
            self.id_,
            observation_space=self.observation_space,
            action_space=self.action_space,
            env_t_started=env_t_started,
            agent_episode_ids={agent_id: episode.id_ for agent_id, episode in self.agent_episodes.items()},
            agent_module_ids=self._agent_to_module_mapping,
            agent_to_module_mapping_fn=self.agent_to_module_mapping_fn,
        )
        out._len_lookback_buffers = lookback
        return out

    def _adopt(self, agent_id: Any, episode: SingleAgentEpisode, mapping: list[Any]) -> None:
        self.agent_episodes[agent_id] = episode
        self.agent_t_started[agent_id] = episode.t_started
        self.env_t_to_agent_t[agent_id] = InfiniteLookbackBuffer(mapping, self._len_lookback_buffers)

    def slice(self, slice_: slice, *, len_lookback_buffer: int | None = None) -> MultiAgentEpisode:
        """A range of its steps of the environment, with a lookback where it has steps before it."""
        if slice_.step not in (1, None):
            raise NotImplementedError(
                f"Slicing MultiAgentEnv with a step other than 1 (you used {slice_.step}) is not supported!"
            )
        start, stop, _ = slice_.indices(len(self))
        stop = max(start, stop)
        own = self._len_lookback_buffers
        lookback = min(own if len_lookback_buffer is None else len_lookback_buffer, own + start)
        out = self._empty_like(self.env_t_started + start, lookback)
        out.env_t = self.env_t_started + stop
        ends = stop == len(self)
        out.is_terminated, out.is_truncated = self.is_terminated and ends, self.is_truncated and ends
        for agent_id, episode in self.agent_episodes.items():
            entries = self.env_t_to_agent_t[agent_id].data
            span = entries[own + start - lookback : own + stop + 1]
            seen = [t for t in span if t != SKIP]
            if not seen:
                continue
            begun = next((t for t in span[lookback:] if t != SKIP), seen[-1])
            offset = episode.t_started
            part = episode.slice(slice(begun - offset, seen[-1] - offset), len_lookback_buffer=begun - seen[0])
            out._adopt(agent_id, part, list(span))
            if not part.is_done and seen[-1] < episode.t and span[-1] == SKIP:
                out._hanging_actions_end[agent_id] = episode.get_actions(seen[-1] - offset)
                out._hanging_rewards_end[agent_id] = episode.get_rewards(seen[-1] - offset)
        out._stepped = {a for a, mapping in out.env_t_to_agent_t.items() if mapping.data[-1] != SKIP}
        return out

    def __getitem__(self, item: Any) -> MultiAgentEpisode:
        if not isinstance(item, slice):
            raise NotImplementedError(
                f"MultiAgentEpisode does not support getting item '{item}'! "
                "Only slice objects allowed with the syntax: `episode[a:b]`."
            )
        return self.slice(item)

    # -------------------------------------------------------------- reading and writing

    def get_observations(
        self, indices: Indices = None, agent_ids: Any = None, *, one_hot_discrete: bool = False, **how: Any
    ) -> Any:
        """Observations by agent (see `Lookup.get`); with ``return_list`` a dict for each step."""
        return Lookup(self, "observations", one_hot_discrete=one_hot_discrete).get(indices, agent_ids, **how)

    def get_infos(self, indices: Indices = None, agent_ids: Any = None, **how: Any) -> Any:
        """Infos by agent."""
        return Lookup(self, "infos").get(indices, agent_ids, **how)

    def get_actions(
        self, indices: Indices = None, agent_ids: Any = None, *, one_hot_discrete: bool = False, **how: Any
    ) -> Any:
        """Actions by agent, hanging ones as well."""
        return Lookup(self, "actions", one_hot_discrete=one_hot_discrete).get(indices, agent_ids, **how)

    def get_rewards(self, indices: Indices = None, agent_ids: Any = None, **how: Any) -> Any:
        """Rewards by agent, those of hanging actions as well."""
        return Lookup(self, "rewards").get(indices, agent_ids, **how)

    def get_extra_model_outputs(
        self, key: str | None = None, indices: Indices = None, agent_ids: Any = None, **how: Any
    ) -> Any:
        """What the modules gave beside actions: of one column, or of all as dicts."""
        return Lookup(self, "extra_model_outputs", key).get(indices, agent_ids, **how)

    # -------------------------------------------------------------- facts

    @property
    def custom_data(self) -> dict[str, Any]:
        """What users keep with the episode; a cut carries it over."""
        return self._custom_data

    @property
    def is_reset(self) -> bool:
        """Whether an agent has its first observation."""
        return any(episode.is_reset for episode in self.agent_episodes.values())

    @property
    def is_numpy(self) -> bool:
        """Whether its records are arrays."""
        kinds = {episode.is_numpy for episode in self.agent_episodes.values()}
        if len(kinds) > 1:
            raise RuntimeError(
                f"Only some SingleAgentEpisode objects in {self} are converted to numpy, others are not!"
            )
        return kinds == {True}

    @property
    def is_done(self) -> bool:
        """Whether the environment ended, terminated or truncated."""
        return self.is_terminated or self.is_truncated

    @property
    def agent_ids(self) -> set[Any]:
        """Agents that have been seen."""
        return set(self.agent_episodes)

    @property
    def agent_episode_ids(self) -> dict[Any, str]:
        """The ids of the agents' episodes."""
        return {agent_id: episode.id_ for agent_id, episode in self.agent_episodes.items()}

    def module_for(self, agent_id: Any) -> str:
        """The module of an agent; asked for once in an episode."""
        if agent_id not in self._agent_to_module_mapping:
            self._agent_to_module_mapping[agent_id] = self.agent_to_module_mapping_fn(agent_id, self)
        return self._agent_to_module_mapping[agent_id]

    def get_agents_to_act(self) -> set[Any]:
        """Agents that have a new observation and are not done."""
        return {a for a in self._stepped if a in self.agent_episodes and not self.agent_episodes[a].is_done}

    def get_agents_that_stepped(self) -> set[Any]:
        """Agents that have a new observation."""
        return {agent_id for agent_id in self._stepped if agent_id in self.agent_episodes}

    def get_terminateds(self) -> dict[Any, bool]:
        """Which agents terminated."""
        out = {agent_id: episode.is_terminated for agent_id, episode in self.agent_episodes.items()}
        return out | {ALL: self.is_terminated}

    def get_truncateds(self) -> dict[Any, bool]:
        """Which agents were truncated."""
        out = {agent_id: episode.is_truncated for agent_id, episode in self.agent_episodes.items()}
        return out | {ALL: self.is_truncated}

    def __len__(self) -> int:
        return self.env_t - self.env_t_started

    def __repr__(self) -> str:
        returns = {agent_id: episode.get_return() for agent_id, episode in self.agent_episodes.items()}
        return f"MAEps(len={len(self)} done={self.is_done} Rs={returns} id_={self.id_})"

    def get_return(self, include_hanging_rewards: bool = False) -> float:
        """The sum of all agents' rewards in this chunk."""
        total = sum(episode.get_return() for episode in self.agent_episodes.values())
        if include_hanging_rewards:
            total += sum(self._hanging_rewards_begin.values()) + sum(self._hanging_rewards_end.values())
        return total

    def get_duration_s(self) -> float:
        """Seconds from the first observation to the last step."""
        if self._last_step_time is None or self._start_time is None:
            return 0.0
        return self._last_step_time - self._start_time

    def env_steps(self) -> int:
        """How many steps of the environment this chunk has."""
        return len(self)

    def agent_steps(self) -> int:
        """How many steps all agents have in this chunk."""
        return sum(len(episode) for episode in self.agent_episodes.values())

    def print(self) -> None:
        """Print which agents had an observation at which step of the environment."""
        print(picture(self))

    def get_state(self) -> dict[str, Any]:
        """All it holds, to be pickled."""
        state = {name: value for name, value in vars(self).items() if name != "agent_episodes"}
        agents = [(agent_id, episode.get_state()) for agent_id, episode in self.agent_episodes.items()]
        return {**copy.copy(state), "agent_episodes": agents}

    @staticmethod
    def from_state(state: dict[str, Any]) -> MultiAgentEpisode:
        """An episode from what `get_state` gave."""
        episode = MultiAgentEpisode(state["id_"])
        vars(episode).update({name: value for name, value in state.items() if name != "agent_episodes"})
        episode.agent_episodes = {a: SingleAgentEpisode.from_state(part) for a, part in state["agent_episodes"]}
        return episode

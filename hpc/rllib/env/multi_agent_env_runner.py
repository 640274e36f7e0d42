"""The runner for environments with several agents: each module acts once for all agents of all environments."""

from __future__ import annotations

import time
from typing import Any

import gymnasium as gym
import numpy as np

from hpc.rllib.core.acting import make_actor
from hpc.rllib.core.columns import Columns
from hpc.rllib.env import INPUT_ENV_SINGLE_SPACES, INPUT_ENV_SPACES
from hpc.rllib.env.agents_passage import AgentsPassage
from hpc.rllib.env.env_runner import EnvRunner, Goal
from hpc.rllib.env.fragment import ACTION_MASK, EpisodeRecord, Fragment, Sample
from hpc.rllib.env.logged import log_episode, log_steps
from hpc.rllib.env.multi_agent_episode import MultiAgentEpisode
from hpc.rllib.env.random_actions import allowed, squashed
from hpc.rllib.env.single_agent_episode import SingleAgentEpisode
from hpc.rllib.env.tallies import Tally
from hpc.rllib.env.vector.multi_agent_vector import MultiAgentVector, make_multi_agent_vector
from hpc.rllib.utils.metrics import WEIGHTS_SEQ_NO
from hpc.rllib.utils.threads import limited_threads
from hpc.rllib.utils.trees import map_tree, stack, take

_EPISODE_HOOKS = ("on_episode_created", "on_episode_start", "on_episode_step", "on_episode_end")


class MultiAgentEnvRunner(EnvRunner):
    """Steps several environments, in which agents act at once or in turn, come and go.

    A sample has a fragment for each module, with a column for each agent's episode, or chunk of one.
    """

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        self.num_envs = 0
        self.env: MultiAgentVector | None = None
        self._needs_reset = True
        self._reset_from_generator = False
        self._running: list[MultiAgentEpisode] = []
        self._tallies: list[Tally] = []
        self._earlier: dict[str, list[MultiAgentEpisode]] = {}
        #: States of modules by environment and agent.
        self._states: dict[tuple[int, Any], Any] = {}
        if self._has_env:
            self.make_env()
        self._env_to_module = self.config.build_env_to_module_connector(self.env, self.spaces, None)
        self.make_module()
        self._module_to_env = self.config.build_module_to_env_connector(self.env, self.spaces)
        self._passage = AgentsPassage(self)
        self._hooks = [hook for hook in _EPISODE_HOOKS if self._wanted(hook)]

    # -------------------------------------------------------------- parts

    def make_env(self) -> None:
        """Make the environments anew, by what the configuration says now."""
        if self.env is not None:
            self.env.close()
        context = self._context()
        self.env = make_multi_agent_vector(self.config, context, self._env_failed)
        self.num_envs = self.env.num_envs
        self._needs_reset = True
        self._call(
            "on_environment_created", env_runner=self, metrics_logger=self.metrics, env=self.env, env_context=context
        )

    def make_module(self) -> None:
        """Make the modules anew, by what the configuration says now."""
        try:
            spec = self.config.get_multi_rl_module_spec(env=self.env, spaces=self.get_spaces(), inference_only=True)
        except NotImplementedError:
            self.module = None
            return
        self.module = spec.build()
        gpus = self.config.num_gpus_per_env_runner if self.worker_index > 0 else 0
        if gpus:
            self.module.foreach_module(lambda _, module: module.to("cuda") if hasattr(module, "to") else None)
        self._actors: dict[str, Any] = {}

    def _actor(self, module_id: str) -> Any:
        if module_id not in self._actors:
            if module_id not in self._module:
                raise ValueError(
                    f"policy_mapping_fn gave {module_id!r}, and there is no such module: there are "
                    f"{sorted(self._module.keys())}. Name it in config.multi_agent(policies=..)."
                )
            self._actors[module_id] = make_actor(self.module[module_id], within=(self._module, module_id))
        return self._actors[module_id]

    def get_spaces(self) -> dict[str, tuple[Any, Any]]:
        """The spaces of the environments by agent, and those of the modules (after the connectors)."""
        if self.env is None:
            return self.spaces
        single = self.env.single_observation_space, self.env.single_action_space
        out = {INPUT_ENV_SPACES: single, INPUT_ENV_SINGLE_SPACES: single}
        observed, acted = self._env_to_module.observation_space, self._env_to_module.action_space
        modules = set(self.config.policies or {})
        if isinstance(observed, gym.spaces.Dict) and modules and modules.issubset(observed.spaces):
            out.update({module_id: (observed[module_id], acted[module_id]) for module_id in modules})
        return out

    def assert_healthy(self) -> None:
        """Raise AssertionError where it has no environment or no module."""
        assert self.env is not None and self.module is not None, "the runner has no environment or no module"

    def _set_module_weights(self, weights: dict[str, Any]) -> None:
        for module_id, own in weights.items():
            if module_id in self._module:
                self._actor(module_id).set_weights(own)
                self._new_weights[module_id] = own

    def _load_weights(self, weights: dict[str, Any]) -> None:
        for module_id, own in weights.items():
            self._module[module_id].set_state(own)

    def add_module(self, module_id: str, module_spec: Any, config_overrides: Any = None, **kwargs: Any) -> None:
        """Have one more module."""
        self.module.add_module(module_id, module_spec.build())

    def remove_module(self, module_id: str, **kwargs: Any) -> None:
        """Have a module no more."""
        self.module.remove_module(module_id)
        self._actors.pop(module_id, None)

    def _start_over(self) -> None:
        self._needs_reset = True
        self._reset_from_generator = self.config.seed is not None

    # -------------------------------------------------------------- sampling

    def sample_fragment(
        self,
        rows: int | None = None,
        episodes: int | None = None,
        *,
        steps: int | None = None,
        explore: bool | None = None,
        random_actions: bool = False,
        force_reset: bool = False,
    ) -> Sample:
        """Step all environments for some rows, until some steps are made, or until some episodes are done.

        Of episodes those that are not done are left out. Without any it is what the configuration says.
        """
        begin, version = time.perf_counter(), self._weights_seq_no
        goal = self._goal(rows, episodes, steps, self.num_envs)
        versions: list[tuple[int, int]] = []
        with limited_threads():
            done, records, steps, counts = self._run(goal, explore, random_actions, force_reset, versions)
            chunks = done if goal.episodes is not None else done + self._cut()
            fragments = self._fragments(chunks)
        if goal.episodes is not None:
            steps = sum(record.length for record in records)
        self.num_env_steps_sampled_lifetime += steps
        self._sampled(chunks)
        return Sample(
            fragments,
            env_steps=steps,
            agent_steps=counts[0],
            module_steps=counts[1],
            episodes=records,
            version=version,
            versions=versions,
            runner=self.worker_index,
            seconds=time.perf_counter() - begin,
            metrics=self.metrics.reduce(),
            timers=self._clock.take(begin),
            faults=self._take_faults(),
        )

    def sample(
        self,
        *,
        num_timesteps: int | None = None,
        num_episodes: int | None = None,
        explore: bool | None = None,
        random_actions: bool = False,
        force_reset: bool = False,
    ) -> list[MultiAgentEpisode]:
        """Step for some steps, or until some episodes are done. Returns episodes and chunks of them."""
        goal = self._goal(None, num_episodes, num_timesteps, self.num_envs)
        with limited_threads():
            done, records, steps, counts = self._run(goal, explore, random_actions, force_reset, [])
        out = done if goal.episodes is not None else done + self._cut()
        if self.config.episodes_to_numpy:
            out = [episode.to_numpy() for episode in out]
        self.num_env_steps_sampled_lifetime += steps
        log_steps(self.metrics, self.config, steps, len(records), *counts)
        for record in records:
            log_episode(self.metrics, self.config, record, several=True)
        self._sampled(out)
        return out

    def _run(
        self,
        goal: Goal,
        explore: bool | None,
        at_random: bool,
        force_reset: bool,
        versions: list[tuple[int, int]],
    ) -> tuple[list[MultiAgentEpisode], list[EpisodeRecord], int, tuple[dict[Any, int], dict[str, int]]]:
        """Step until the goal. Returns done episodes, their records, and steps of environments, agents and modules."""
        explore = self.config.explore if explore is None else explore
        if force_reset or goal.episodes is not None or self._needs_reset:
            self._reset(explore)
        done: list[MultiAgentEpisode] = []
        records: list[EpisodeRecord] = []
        counts: tuple[dict[Any, int], dict[str, int]] = ({}, {})
        by_agent = self.config.count_steps_by == "agent_steps"
        row = env_steps = agent_steps = 0
        while not goal.reached(row, len(records), agent_steps if by_agent else env_steps):
            self._take_new_weights(row, versions)
            stepped = self._row(explore, at_random, env_steps, done, records, counts)
            env_steps += stepped[0]
            agent_steps += stepped[1]
            row += 1
        if goal.episodes is not None:
            done, records, self._needs_reset = done[: goal.episodes], records[: goal.episodes], True
        return done, records, env_steps, counts

    def _take_new_weights(self, row: int, versions: list[tuple[int, int]]) -> None:
        if self.between_rows is not None:
            before = self._weights_seq_no
            self.between_rows()
            if self._weights_seq_no != before:
                versions.append((row, self._weights_seq_no))

    def _sampled(self, chunks: list[MultiAgentEpisode]) -> None:
        if self._wanted("on_sample_end"):
            self._call("on_sample_end", env_runner=self, metrics_logger=self.metrics, samples=chunks)

    def _cut(self) -> list[MultiAgentEpisode]:
        """Chunks of all running episodes; what follows goes into new ones."""
        out = []
        for at, episode in enumerate(self._running):
            if len(episode):
                self._running[at] = episode.cut(self.config.episode_lookback_horizon)
                self._tallies[at].keep(episode)
                if self._hooks:
                    self._earlier.setdefault(episode.id_, []).append(episode)
                out.append(episode)
        return out

    def _fragments(self, chunks: list[MultiAgentEpisode]) -> dict[str, Fragment]:
        by_module: dict[str, list[tuple[int, SingleAgentEpisode]]] = {}
        for at, chunk in enumerate(chunks):
            for episode in chunk.agent_episodes.values():
                if len(episode):
                    by_module.setdefault(episode.module_id or "", []).append((at, episode.to_numpy()))
        out = {}
        for module_id, pairs in by_module.items():
            fragment = Fragment.of_episodes([episode for _, episode in pairs])
            fragment.columns.pop(Columns.STATE_OUT, None)
            fragment.columns.pop(WEIGHTS_SEQ_NO, None)
            fragment.owners = [(at, episode.agent_id) for at, episode in pairs]
            out[module_id] = fragment
        return out

    # -------------------------------------------------------------- rows

    def _reset(self, explore: bool) -> None:
        """Reset all environments; what ran is forgotten."""
        assert self.env is not None
        seed = self._seeds.env if not self._running else None
        if self._reset_from_generator:
            seed = int(self.rng.integers(2**31))
            self._reset_from_generator = False
        seeds: list[int | None] = [None] * self.num_envs
        if seed is not None:
            seeds = [int(word) >> 1 for word in np.random.SeedSequence(seed).generate_state(self.num_envs)]
        self._running, self._tallies, self._earlier, self._states = [], [], {}, {}
        for at in range(self.num_envs):
            self._begin(at, seeds[at])
        self._passage.see(self._running, explore)
        for at in range(self.num_envs):
            self._episode_call("on_episode_start", at)
        self._needs_reset = False

    def _begin(self, at: int, seed: int | None = None) -> None:
        """Begin an episode in one environment."""
        assert self.env is not None
        episode = MultiAgentEpisode(
            observation_space=self.env.single_observation_space,
            action_space=self.env.single_action_space,
            agent_to_module_mapping_fn=self.config.policy_mapping_fn,
        )
        if at < len(self._running):
            self._running[at], self._tallies[at] = episode, Tally()
        else:
            self._running.append(episode)
            self._tallies.append(Tally())
        for key in [key for key in self._states if key[0] == at]:
            del self._states[key]
        self._episode_call("on_episode_created", at)
        observations, infos = self.env.reset_one(at, seed)
        episode.add_env_reset(observations=observations, infos=infos)

    def _row(
        self,
        explore: bool,
        at_random: bool,
        before: int,
        done: list[MultiAgentEpisode],
        records: list[EpisodeRecord],
        counts: tuple[dict[Any, int], dict[str, int]],
    ) -> tuple[int, int]:
        """Act once in all environments. Returns how many steps environments and agents made."""
        assert self.env is not None
        self._clock.start()
        actions, for_env, extra = self._act(explore, at_random, before)
        self._clock.acted()
        ended, failed, agent_steps = [], [], 0
        for at, episode in enumerate(self._running):
            result = self.env.step_one(at, for_env[at])
            if result is None:
                failed.append(at)
                continue
            observations, rewards, ends, cuts, infos = result
            episode.add_env_step(
                observations,
                actions[at],
                rewards,
                infos,
                terminateds=ends,
                truncateds=cuts,
                extra_model_outputs=extra[at],
            )
            # As RLlib counts: who got an observation made a step.
            agent_steps += len(observations)
            for agent_id in observations:
                module_id = episode.module_for(agent_id)
                counts[0][str(agent_id)] = counts[0].get(str(agent_id), 0) + 1
                counts[1][module_id] = counts[1].get(module_id, 0) + 1
            if episode.is_done:
                ended.append(at)
        self._clock.stepped()
        self._passage.see([episode for at, episode in enumerate(self._running) if at not in failed], explore)
        for at in range(self.num_envs):
            if at not in failed:
                self._episode_call("on_episode_step", at)
        for at in ended:
            self._end(at, done, records)
        for at in failed:
            self._abandon(at, done)
        begun = sorted(ended + failed)
        for at in begun:
            self._begin(at)
        if begun:
            self._passage.see([self._running[at] for at in begun], explore)
            for at in begun:
                self._episode_call("on_episode_start", at)
        return self.num_envs - len(failed), agent_steps

    def _end(self, at: int, done: list[MultiAgentEpisode], records: list[EpisodeRecord]) -> None:
        episode = self._running[at]
        self._episode_call("on_episode_end", at, prev_episode_chunks=self._earlier.pop(episode.id_, []))
        records.append(self._tallies[at].record(episode))
        done.append(episode)

    def _abandon(self, at: int, done: list[MultiAgentEpisode]) -> None:
        """Keep the steps of an episode whose environment failed; it has no end."""
        episode = self._running[at]
        self._earlier.pop(episode.id_, None)
        if len(episode):
            done.append(episode)

    def _act(self, explore: bool, at_random: bool, before: int) -> tuple[list[Any], list[Any], list[Any]]:
        """For each environment, dicts by agent: the modules' actions, those for the environment, other outputs."""
        waiting: dict[str, list[tuple[int, Any]]] = {}
        for at, episode in enumerate(self._running):
            for agent_id in episode.get_agents_to_act():
                waiting.setdefault(episode.module_for(agent_id), []).append((at, agent_id))
        outputs: dict[str, dict[str, Any]] = {}
        for module_id in sorted(waiting, key=str):
            # Agents of a set have no order: draws must not depend on it.
            waiting[module_id].sort(key=lambda place: (place[0], str(place[1])))
            places = waiting[module_id]
            if at_random or self._module is None:
                outputs[module_id] = {Columns.ACTIONS: self._random(places)}
            else:
                outputs[module_id] = self._act_of(module_id, places, explore, before)
        return self._passage.actions(waiting, outputs, self._running, explore)

    def _act_of(self, module_id: str, places: list[tuple[int, Any]], explore: bool, before: int) -> dict[str, Any]:
        """Let one module act for all agents that wait for it."""
        actor = self._actor(module_id)
        seen = [self._passage.seen(self._running[at], agent_id) for at, agent_id in places]
        obs = stack([map_tree(np.asarray, one) for one, _ in seen])
        masks: list[Any] = [one for _, one in seen]
        mask = None if masks[0] is None else np.stack(masks)
        fresh = actor.initial_state(1)
        state = None
        if fresh:
            state = stack([self._states.get(place) or take(fresh, 0) for place in places])
        out: dict[str, Any] = actor.act(
            obs, state=state, mask=mask, explore=explore, rng=self.rng, t=self._global_steps(before), values=False
        )
        if mask is not None:
            out[ACTION_MASK] = mask
        if state is not None:
            after = out.pop(Columns.STATE_OUT)
            for i, place in enumerate(places):
                self._states[place] = take(after, i)
            out[Columns.STATE_IN] = state
        return out

    def _random(self, places: list[tuple[int, Any]]) -> Any:
        assert self.env is not None
        drawn = []
        for at, agent_id in places:
            space = self.env.single_action_space[agent_id]
            mask = self._passage.seen(self._running[at], agent_id)[1] if self._module is not None else None
            if mask is not None:
                drawn.append(allowed(space, mask[None], self.rng)[0])
            else:
                one = map_tree(np.asarray, self.env.sample_action(at, agent_id))
                drawn.append(squashed(one, space, self.config.normalize_actions))
        return stack([map_tree(np.asarray, one) for one in drawn])

    def _episode_call(self, hook: str, at: int, **more: Any) -> None:
        if hook not in self._hooks:
            return
        self._call(
            hook,
            episode=self._running[at],
            env_runner=self,
            metrics_logger=self.metrics,
            env=self.env,
            rl_module=self.module,
            env_index=at,
            **more,
        )

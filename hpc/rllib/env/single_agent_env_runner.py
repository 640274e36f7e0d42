"""The runner for environments with one agent: rows of all environments at once, written into arrays in place."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from typing import Any

import numpy as np

from hpc.rllib.core import DEFAULT_AGENT_ID, DEFAULT_MODULE_ID
from hpc.rllib.core.acting import make_actor
from hpc.rllib.core.columns import Columns
from hpc.rllib.env import INPUT_ENV_SINGLE_SPACES, INPUT_ENV_SPACES
from hpc.rllib.env.books import Books
from hpc.rllib.env.env_runner import EnvRunner, Goal
from hpc.rllib.env.fragment import ACTION_MASK, FIRST, EpisodeRecord, Sample
from hpc.rllib.env.live_episodes import LiveEpisodes, infos_by_env
from hpc.rllib.env.logged import log_episode, log_steps
from hpc.rllib.env.passage import Passage
from hpc.rllib.env.random_actions import random_actions as drawn_at_random
from hpc.rllib.env.recorder import Recorder
from hpc.rllib.env.single_agent_episode import SingleAgentEpisode
from hpc.rllib.env.vector.registration import make_vector
from hpc.rllib.utils.spaces.space_utils import unbatch
from hpc.rllib.utils.threads import limited_threads
from hpc.rllib.utils.trees import map_tree, put

#: Rows that are made room for where nobody knows how many there will be.
UNKNOWN_ROWS = 128
_EPISODE_HOOKS = ("on_episode_created", "on_episode_start", "on_episode_step", "on_episode_end")


class SingleAgentEnvRunner(EnvRunner):
    """Steps the environments of one vector with one module.

    ``sample_fragment`` is for algorithms: arrays, nothing by step in objects. ``sample`` is RLlib's: a list of
    episodes.
    """

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        self.num_envs = 0
        self._tag = uuid.uuid4().hex[:12]
        self._needs_reset = True
        self._reset_from_generator = False
        self._live: LiveEpisodes | None = None
        self._done_episodes: list[SingleAgentEpisode] = []
        if self._has_env:
            self.make_env()
        self._env_to_module = self.config.build_env_to_module_connector(self.env, self.spaces, None)
        self.make_module()
        self._module_to_env = self.config.build_module_to_env_connector(self.env, self.spaces)
        self._passage = Passage(self)
        self._hooked = any(self._wanted(hook) for hook in _EPISODE_HOOKS)
        self._watched = self._hooked or not self._passage.on_arrays

    # -------------------------------------------------------------- parts

    def make_env(self) -> None:
        """Make the environments anew, by what the configuration says now."""
        if self.env is not None:
            self.env.close()
        context = self._context()
        seeds = self._seeds
        # Callbacks look into environments.
        single = any(self._wanted(hook) for hook in ("on_environment_created", *_EPISODE_HOOKS))
        self.env = make_vector(self.config, context, seeds.env, self._env_failed, single=single)
        if seeds.env is not None:
            self.env.action_space.seed(seeds.env)
        self.num_envs = int(self.env.num_envs)
        self._needs_reset = True
        self._first = np.ones(self.num_envs, bool)
        self._done = np.zeros(self.num_envs, bool)
        self._books = Books(self.num_envs)
        env = getattr(self.env, "unwrapped", self.env)
        self._call("on_environment_created", env_runner=self, metrics_logger=self.metrics, env=env, env_context=context)

    def make_module(self) -> None:
        """Make the module anew, by what the configuration says now."""
        try:
            spec = self.config.get_rl_module_spec(env=self.env, spaces=self.get_spaces(), inference_only=True)
            self.module = spec.build()
        except NotImplementedError:
            self.module = None
            return
        gpus = self.config.num_gpus_per_env_runner if self.worker_index > 0 else 0
        if gpus and hasattr(self.module, "to"):
            self.module.to("cuda")
        self._actor = make_actor(self.module)

    def get_spaces(self) -> dict[str, tuple[Any, Any]]:
        """The spaces of the vector, of one environment, and of the module (after the connectors)."""
        if self.env is None:
            return self.spaces
        single = (self.env.single_observation_space, self.env.single_action_space)
        return {
            INPUT_ENV_SPACES: (self.env.observation_space, self.env.action_space),
            INPUT_ENV_SINGLE_SPACES: single,
            DEFAULT_MODULE_ID: (self._env_to_module.observation_space, single[1]),
        }

    def assert_healthy(self) -> None:
        """Raise AssertionError where it has no environment."""
        assert self.env is not None, "the runner has no environment"

    def _set_module_weights(self, weights: dict[str, Any]) -> None:
        own = weights.get(DEFAULT_MODULE_ID, weights)
        self._actor.set_weights(own)
        self._new_weights = {DEFAULT_MODULE_ID: own}

    def _load_weights(self, weights: dict[str, Any]) -> None:
        self._module.set_state(weights[DEFAULT_MODULE_ID])

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

        Of episodes those that are not done are left out. Without any it is what the configuration says:
        rollout_fragment_length steps of each environment, or for complete episodes one for each environment.
        """
        with limited_threads():
            return self._sample_fragment(
                self._goal(rows, episodes, steps, self.num_envs), explore, random_actions, force_reset
            )

    def _sample_fragment(self, goal: Goal, explore: bool | None, random_actions: bool, force_reset: bool) -> Sample:
        begin = time.perf_counter()
        explore = self.config.explore if explore is None else explore
        if force_reset or goal.episodes is not None or self._needs_reset:
            self._reset(explore)
        if not self._watched:
            self._live = None
        starts, numbers = self._books.lengths.copy(), self._books.number.copy()
        version = self._weights_seq_no
        versions: list[tuple[int, int]] = []
        # Steps need more rows where episodes end: a row after an end is no step.
        recorder = Recorder(
            goal.rows or (UNKNOWN_ROWS if goal.steps is None else goal.steps // self.num_envs * 9 // 8 + 8)
        )
        records: list[EpisodeRecord] = []
        row = steps = 0
        while not goal.reached(row, len(records), steps):
            recorder.room_for(row)
            if self.between_rows is not None:
                self.between_rows()
                if self._weights_seq_no != (versions[-1][1] if versions else version):
                    versions.append((row, self._weights_seq_no))
            steps += self._made_steps(self._row(recorder, row, explore, random_actions, steps, records))
            row += 1
        self._last_row(recorder, row)
        fragment = recorder.fragment(row, self.num_envs, t_start=starts, number=numbers, name=self._tag)
        if goal.episodes is not None:
            records = records[: goal.episodes]
            steps = _only_finished(fragment, len(records))
            self._needs_reset = True
        self._done_episodes.clear()
        if self._live is not None and not self._hooked:
            # Connectors look back so far only: an episode without an end does not grow for ever.
            self._live.cut()
        self.num_env_steps_sampled_lifetime += steps
        if self._wanted("on_sample_end"):
            self._call("on_sample_end", env_runner=self, metrics_logger=self.metrics, samples=fragment.episodes())
        return Sample(
            {DEFAULT_MODULE_ID: fragment},
            env_steps=steps,
            agent_steps={DEFAULT_AGENT_ID: steps},
            module_steps={DEFAULT_MODULE_ID: steps},
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
    ) -> list[SingleAgentEpisode]:
        """Step for some steps, or until some episodes are done. Returns episodes and chunks of them."""
        goal = self._goal(None, num_episodes, num_timesteps, self.num_envs)
        with limited_threads():
            return self._sample(goal, self.config.explore if explore is None else explore, random_actions, force_reset)

    def _sample(self, goal: Goal, explore: bool, random_actions: bool, force_reset: bool) -> list[SingleAgentEpisode]:
        if force_reset or goal.episodes is not None or self._needs_reset:
            self._reset(explore, live=True)
        self._ensure_live()
        assert self._live is not None
        recorder = Recorder(1)
        records: list[EpisodeRecord] = []
        steps = 0
        while not goal.reached(0, len(records), steps):
            steps += self._made_steps(self._row(recorder, 0, explore, random_actions, steps, records))
        out, self._done_episodes = self._done_episodes, []
        if goal.episodes is not None:
            out, records, self._needs_reset = out[: goal.episodes], records[: goal.episodes], True
        else:
            out = out + self._live.cut()
        if self.config.episodes_to_numpy:
            out = [episode.to_numpy() for episode in out]
        self.num_env_steps_sampled_lifetime += steps
        log_steps(self.metrics, self.config, steps, len(records))
        for record in records:
            log_episode(self.metrics, self.config, record)
        if self._wanted("on_sample_end"):
            self._call("on_sample_end", env_runner=self, metrics_logger=self.metrics, samples=out)
        return out

    # -------------------------------------------------------------- rows

    def _reset(self, explore: bool, live: bool = False) -> None:
        """Reset all environments; what ran is forgotten."""
        observations, infos = self._reset_env()
        self._first[:] = True
        self._done[:] = False
        self._books.start_all()
        self._passage.forget()
        self._state = self._actor.initial_state(self.num_envs) if self._module is not None else {}
        self._live = self._new_live() if live or self._watched else None
        each = [] if self._live is None else infos_by_env(self.env, infos, self.num_envs)
        if self._live is not None:
            self._live.new_all([self._id(at) for at in range(self.num_envs)])
            for at in range(self.num_envs):
                self._episode_call("on_episode_created", at)
        everywhere = np.ones(self.num_envs, bool)
        self._see(observations, everywhere, None, None, explore, each, everywhere)
        for at in range(self.num_envs if self._live is not None else 0):
            self._episode_call("on_episode_start", at)
        self._needs_reset = False

    def _reset_env(self) -> Any:
        seed = self._seeds.env if self._needs_reset else None
        if self._reset_from_generator:
            seed = int(self.rng.integers(2**31))
            self._reset_from_generator = False
            if is_of_envpool(self.env):
                self._make_again(seed)
            self.env.action_space.seed(seed)
        elif self._books.number.any():
            seed = None
        try:
            return reset_vector(self.env, seed)
        except Exception as error:
            if not self.config.restart_failed_sub_environments:
                raise
            self._env_failed(None, error)
            self._remake()
            return reset_vector(self.env, seed)

    def _remake(self) -> None:
        # The seed of before would give the episodes of before.
        self._make_again(None if self._seeds.env is None else int(self.rng.integers(2**31)))

    def _make_again(self, seed: int | None) -> None:
        """Make the environments anew, with this seed; counts and flags go on."""
        books, first, done = self._books, self._first, self._done
        self._seeds = replace(self._seeds, env=seed)
        self.make_env()
        self._books, self._first, self._done = books, first, done
        self._needs_reset = False

    def _see(
        self,
        observations: Any,
        first: np.ndarray,
        actions: Any,
        rewards: Any,
        explore: bool,
        infos: list[dict[str, Any]],
        begins: np.ndarray,
        step: Any = None,
    ) -> None:
        """Take what the environments gave: through the connectors to the module, and into live episodes."""
        if self._passage.on_arrays:
            self._obs, self._mask = self._passage.rows(observations, first, actions, rewards, explore)
            shown = self._obs
        else:
            shown = observations
        if self._live is not None:
            for at, observation in enumerate(unbatch(shown)):
                if begins[at]:
                    self._live.first(at, observation, infos[at])
                elif step is not None:
                    step(at, observation, infos[at])
        if not self._passage.on_arrays:
            assert self._live is not None
            self._obs, self._mask = self._passage.episodes(self._live.running, explore)

    def _row(
        self,
        recorder: Recorder,
        row: int,
        explore: bool,
        at_random: bool,
        before: int,
        records: list[EpisodeRecord],
    ) -> int:
        """Act once in all environments, and write the row. Returns how many steps it has."""
        if row == 0:
            recorder.put(Columns.OBS, 0, self._obs)
        if self._mask is not None:
            recorder.put(ACTION_MASK, row, self._mask)
        if self._state:
            recorder.put(Columns.STATE_IN, row, self._state)
        recorder.put(FIRST, row, self._first)
        self._clock.start()
        outputs = self._act(explore, at_random, before)
        self._clock.acted()
        actions, state = outputs.pop(Columns.ACTIONS), outputs.pop(Columns.STATE_OUT, None)
        for_env = outputs.pop(Columns.ACTIONS_FOR_ENV)
        observations, rewards, terminateds, truncateds, infos, failed = self._step(for_env)
        self._clock.stepped()
        begins = self._done if failed is None else self._done | failed
        valid = ~begins
        rewards = np.where(begins, 0.0, rewards)
        recorder.put(Columns.ACTIONS, row, actions)
        recorder.put(Columns.REWARDS, row, self._learnt_rewards(rewards))
        recorder.put(Columns.TERMINATEDS, row, terminateds)
        recorder.put(Columns.TRUNCATEDS, row, truncateds)
        recorder.put(Columns.LOSS_MASK, row, valid)
        for name, value in outputs.items():
            recorder.put(name, row, value)
        self._books.step(rewards, valid)
        self._next_state(state, begins)
        step = None
        if self._live is not None:
            self._begin_failed(failed)
            version = self._weights_seq_no
            shown = outputs if state is None else {**outputs, Columns.STATE_OUT: state}

            def step(at: int, observation: Any, info: dict[str, Any]) -> None:
                ends = bool(terminateds[at]), bool(truncateds[at])
                assert self._live is not None
                self._live.step(at, observation, info, actions, float(rewards[at]), *ends, shown, version)

        self._see(observations, begins, actions, rewards, explore, infos, begins, step)
        recorder.put(Columns.OBS, row + 1, self._obs)
        done = (terminateds | truncateds) & valid
        if begins.any():
            self._books.start(begins)
        if self._live is not None:
            self._call_after_row(begins)
        if done.any():
            self._end_episodes(done, records)
        self._first, self._done = begins.copy(), done
        return int(np.count_nonzero(valid))

    def _act(self, explore: bool, at_random: bool, before: int) -> dict[str, Any]:
        if at_random or self._module is None:
            actions = drawn_at_random(self.env, self._mask, self.rng, self.config.normalize_actions)
            outputs = {Columns.ACTIONS: actions}
        else:
            outputs = self._actor.act(
                self._obs,
                state=self._state or None,
                mask=self._mask,
                explore=explore,
                rng=self.rng,
                t=self._global_steps(before),
            )
        return self._passage.actions(outputs, explore, self._live)

    def _step(self, actions: Any) -> tuple[Any, ...]:
        """Step the environments; where all of them are made anew, each of them failed."""
        try:
            observations, rewards, terminateds, truncateds, infos = self.env.step(actions)
            failed = getattr(self.env, "failed", None)
        except Exception as error:
            if not self.config.restart_failed_sub_environments:
                raise
            self._env_failed(None, error)
            self._remake()
            observations, infos = reset_vector(self.env, self._seeds.env)
            rewards = np.zeros(self.num_envs)
            terminateds, truncateds = np.zeros(self.num_envs, bool), np.zeros(self.num_envs, bool)
            failed = np.ones(self.num_envs, bool)
        each = [] if self._live is None else infos_by_env(self.env, infos, self.num_envs)
        if failed is not None and not failed.any():
            failed = None
        return observations, np.asarray(rewards), terminateds, truncateds, each, failed

    def _learnt_rewards(self, rewards: np.ndarray) -> Any:
        clip = self.config.clip_rewards
        if clip is True or (clip is None and getattr(self.config, "is_atari", False)):
            return np.sign(rewards)
        return np.clip(rewards, -clip, clip) if clip else rewards

    def _next_state(self, state: Any, begins: np.ndarray) -> None:
        if state is None or not self._state:
            return
        self._state = map_tree(np.array, state)
        if begins.any():
            put(self._state, begins, self._actor.initial_state(int(np.count_nonzero(begins))))

    def _last_row(self, recorder: Recorder, rows: int) -> None:
        """Write what holds after the last step."""
        if self._mask is not None:
            recorder.put(ACTION_MASK, rows, self._mask)
        if Columns.VF_PREDS in recorder.columns:
            recorder.put(Columns.VF_PREDS, rows, self._actor.values(self._obs, state=self._state or None))
        self._obs = map_tree(np.array, self._obs)

    def _end_episodes(self, done: np.ndarray, records: list[EpisodeRecord]) -> None:
        for at in np.flatnonzero(done).tolist():
            records.append(self._books.record(at))
            if self._live is None:
                continue
            episode = self._live.running[at]
            earlier = self._live.earlier.pop(episode.id_, [])
            self._episode_call("on_episode_end", at, prev_episode_chunks=earlier)
            self._done_episodes.append(episode)
            self._live.new(at, self._id(at, 1))
            self._episode_call("on_episode_created", at)

    # -------------------------------------------------------------- live episodes

    def _new_live(self) -> LiveEpisodes:
        spaces = self.env.single_observation_space, self.env.single_action_space
        read = max((piece.looks_back for piece in self._env_to_module.connectors), default=0)
        lookback = max(self.config.episode_lookback_horizon, read)
        return LiveEpisodes(self.num_envs, *spaces, lookback, self._wanted("on_episode_end"))

    def _ensure_live(self) -> None:
        """Have episode objects from here on, for runners that had none."""
        if self._live is None:
            self._live = self._new_live()
            names = [self._id(at, int(self._done[at])) for at in range(self.num_envs)]
            nothing: list[dict[str, Any]] = [{} for _ in names]
            self._live.resume(names, self._books.lengths, self._obs, nothing)
            for at in np.flatnonzero(self._done).tolist():
                self._live.new(at, names[at])

    def _begin_failed(self, failed: np.ndarray | None) -> None:
        if failed is None or self._live is None:
            return
        for at in np.flatnonzero(failed).tolist():
            if not self._done[at]:
                self._live.new(at, self._id(at, 1))
                self._episode_call("on_episode_created", at)

    def _call_after_row(self, begins: np.ndarray) -> None:
        for at in range(self.num_envs):
            self._episode_call("on_episode_start" if begins[at] else "on_episode_step", at)

    def _episode_call(self, hook: str, at: int, **more: Any) -> None:
        if self._live is None or not self._wanted(hook):
            return
        self._call(
            hook,
            episode=self._live.running[at],
            env_runner=self,
            metrics_logger=self.metrics,
            env=getattr(self.env, "unwrapped", self.env),
            rl_module=self.module,
            env_index=at,
            **more,
        )

    def _id(self, at: int, ahead: int = 0) -> str:
        return f"{self._tag}-{at}-{int(self._books.number[at]) + ahead}"


def reset_vector(env: Any, seed: int | None) -> Any:
    """Reset a vector environment; its parts have seeds of their own where it takes them."""
    if is_of_envpool(env):
        return env.reset()
    if seed is None:
        return env.reset()
    if hasattr(env, "infos_by_env") or type(env).__name__ in ("SyncVectorEnv", "AsyncVectorEnv"):
        words = np.random.SeedSequence(seed).generate_state(env.num_envs)
        return env.reset(seed=[int(word) >> 1 for word in words])
    return env.reset(seed=seed)


def is_of_envpool(env: Any) -> bool:
    """Whether it is a vector of EnvPool, which takes a seed only when it is made."""
    return type(env).__module__.startswith("abc") or "envpool" in str(type(env).__mro__[1:3])


def _only_finished(fragment: Any, count: int) -> int:
    """Mask all steps but those of the first finished episodes. Returns how many steps are left."""
    mask = np.zeros_like(fragment.loss_mask)
    ends = np.argwhere(fragment.dones & fragment.loss_mask)[:count]
    for row, column in ends:
        first = np.flatnonzero(fragment.first[: row + 1, column])
        mask[(first[-1] if len(first) else 0) : row + 1, column] = True
    fragment.columns[Columns.LOSS_MASK] = mask & fragment.loss_mask
    return int(fragment.valid_steps)

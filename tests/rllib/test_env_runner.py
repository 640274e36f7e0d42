"""The runner for one agent: what its fragments hold, seeds, masks, states, failures, callbacks and connectors."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from small_envs import Counting, Masked, Nested

from hpc.rllib.algorithms.ppo import PPOConfig
from hpc.rllib.callbacks.callbacks import RLlibCallback
from hpc.rllib.connectors.connector_v2 import ConnectorV2
from hpc.rllib.connectors.env_to_module import FrameStackingEnvToModule
from hpc.rllib.connectors.env_to_module.observation_preprocessor import SingleAgentObservationPreprocessor
from hpc.rllib.connectors.learner import FrameStackingLearner
from hpc.rllib.core.columns import Columns
from hpc.rllib.core.rl_module.default_model_config import DefaultModelConfig
from hpc.rllib.env.env_errors import EnvError
from hpc.rllib.env.fragment import ACTION_MASK
from hpc.rllib.env.single_agent_env_runner import SingleAgentEnvRunner


def config(env, envs=2, *, env_config=None, seed=0, **env_runners) -> PPOConfig:
    model = DefaultModelConfig(fcnet_hiddens=[8])
    return (
        PPOConfig()
        .environment(env, env_config=env_config or {})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=envs, **env_runners)
        .rl_module(model_config=model)
        .debugging(seed=seed)
    )


def runner(*args, **how) -> SingleAgentEnvRunner:
    return SingleAgentEnvRunner(config=config(*args, **how))


def fragment_of(made: SingleAgentEnvRunner, *args, **how):
    return made.sample_fragment(*args, **how).modules["default_policy"]


def test_a_row_after_an_end_is_a_reset_row():
    sample = runner(Counting, 1).sample_fragment(6)
    found = sample.modules["default_policy"]
    assert found[Columns.OBS][:, 0, 0].tolist() == [0, 1, 2, 3, 0, 1, 2]
    assert found.loss_mask[:, 0].tolist() == [True, True, True, False, True, True]
    assert found[Columns.REWARDS][:, 0].tolist() == [1, 2, 3, 0, 1, 2]
    assert found[Columns.TERMINATEDS][:, 0].tolist() == [False, False, True, False, False, False]
    assert found.first[:, 0].tolist() == [True, False, False, False, True, False]
    assert (sample.env_steps, sample.episodes[0].episode_return, sample.episodes[0].length) == (5, 6.0, 3)


def test_fragments_follow_each_other():
    made = runner(Counting, 1)
    first, second = fragment_of(made, 2), fragment_of(made, 3)
    assert second[Columns.OBS][0] == first[Columns.OBS][-1] == 2
    assert second.t_start.tolist() == [2]
    assert [one.id_ for one in first.episodes()] == [second.episodes()[0].id_]
    assert second.episodes()[0].t_started == 2


def test_whole_episodes_only():
    sample = runner(Counting, 2).sample_fragment(episodes=3)
    found = sample.modules["default_policy"]
    assert (len(sample.episodes), sample.env_steps, found.valid_steps) == (3, 9, 9)
    assert all(one.is_done and len(one) == 3 for one in found.episodes())
    complete = runner(Counting, 2, batch_mode="complete_episodes").sample_fragment()
    assert len(complete.episodes) == 2


def test_the_same_seed_gives_the_same_fragment_and_each_runner_its_own():
    def actions(index: int, restarts: int = 0, seed: int | None = 3) -> np.ndarray:
        torch.manual_seed(0)
        made = SingleAgentEnvRunner(config=config("CartPole-v1", seed=seed), worker_index=index, restarts=restarts)
        return fragment_of(made, 20)[Columns.OBS]

    assert np.array_equal(actions(0), actions(0))
    others = [actions(1), actions(2), actions(1, restarts=1), actions(1, seed=None)]
    assert all(not np.array_equal(actions(0), other) for other in others)
    assert len({other[0].tobytes() for other in others}) == len(others)


def test_a_restored_generator_gives_the_same_rows():
    made = runner("CartPole-v1")
    made.sample_fragment(10)
    state = made.get_state()
    made.set_state(state)
    again = runner("CartPole-v1", seed=9)
    again.set_state(state)
    one, other = fragment_of(made, 20), fragment_of(again, 20)
    assert all(np.array_equal(one[name], other[name]) for name in one.columns)
    assert "rng" not in made.get_state("env_to_module_connector")


def test_the_native_vector_class_is_taken_where_its_spaces_are_the_same():
    assert type(runner("CartPole-v1").env).__name__ == "CartPoleVectorEnv"
    assert type(runner("Pendulum-v1").env).__name__ == "SyncVector"
    asked = config("CartPole-v1").env_runners(gym_env_vectorize_mode=gym.VectorizeMode.SYNC)
    for settings in (asked, config("CartPole-v1").callbacks(Watching)):
        assert type(SingleAgentEnvRunner(config=settings).env).__name__ == "SyncVector"


@pytest.fixture
def pendulums():
    pytest.importorskip("envpool")
    return lambda seed: runner("envpool:Pendulum-v1", 3, seed=seed)


def test_environments_of_envpool_differ_from_runner_to_runner(pendulums):
    firsts = [fragment_of(pendulums(seed), 1)[Columns.OBS][0] for seed in (None, None, 3, 3)]
    assert not np.array_equal(firsts[0], firsts[1])
    assert np.array_equal(firsts[2], firsts[3])


def test_environments_of_envpool_begin_with_other_seeds_after_a_restore(pendulums):
    made = pendulums(3)
    first = fragment_of(made, 4)
    state = made.get_state()
    twins = [pendulums(3) for _ in range(2)]
    for twin in twins:
        twin.set_state(state)
    one, other = (fragment_of(twin, 4) for twin in twins)
    assert np.array_equal(one[Columns.OBS], other[Columns.OBS])
    assert not np.array_equal(one[Columns.OBS], first[Columns.OBS])


def test_random_actions_of_envpool_are_one_for_each_environment(pendulums):
    actions = fragment_of(pendulums(3), 2, random_actions=True)[Columns.ACTIONS]
    assert actions.shape == (2, 3, 1)
    assert len(np.unique(actions)) == 6


class Steered(Counting):
    """Takes actions that begin at 5 and 7."""

    def __init__(self, config=None):
        super().__init__(config)
        self.action_space = gym.spaces.MultiDiscrete([2, 3], start=[5, 7])

    def step(self, action):
        assert self.action_space.contains(action), action
        return super().step(0)


def test_random_actions_begin_where_the_space_does():
    actions = fragment_of(runner(Steered, 2), 20, random_actions=True)[Columns.ACTIONS]
    assert actions.reshape(-1, 2).min(0).tolist() == [0, 0]
    assert actions.reshape(-1, 2).max(0).tolist() == [1, 2]


def test_no_action_that_is_masked():
    made = runner(Masked, 4)
    shape = fragment_of(made, 20)[ACTION_MASK].shape
    made.sample_fragment(20, random_actions=True)
    assert shape == (21, 4, 5)
    assert sum(env.refused for env in made.env.envs) == 0
    assert made.get_spaces()["default_policy"][0].shape == (3,)


def test_nested_spaces_are_flattened_for_the_module_and_actions_fit_the_environment():
    made = runner(Nested, 3)
    found = fragment_of(made, 20)
    assert found[Columns.OBS].shape == (21, 3, 12)
    assert [part.shape for part in found[Columns.ACTIONS]] == [(20, 3), (20, 3, 2)]
    drawn = fragment_of(made, 20, random_actions=True)[Columns.ACTIONS]
    assert set(np.unique(drawn[0])) == {0, 1} and np.abs(drawn[1]).max() <= 1.0


def test_states_of_recurrent_modules_begin_anew_with_each_episode():
    settings = config(Counting, 2).rl_module(model_config=DefaultModelConfig(use_lstm=True, lstm_cell_size=4))
    found = fragment_of(SingleAgentEnvRunner(config=settings), 10)
    state = found[Columns.STATE_IN]["h"]
    assert not state[found.first].any()
    assert state[found.loss_mask & ~found.first].any()


def recurrent(length: int = 70, **how) -> PPOConfig:
    model = DefaultModelConfig(fcnet_hiddens=[8], use_lstm=True, max_seq_len=4, lstm_cell_size=3, **how)
    return config(Counting, env_config={"length": length}).rl_module(model_config=model)


@pytest.mark.parametrize("shared", [True, False])
def test_a_runner_values_by_the_weights_that_learn(shared):
    algo = recurrent(vf_share_layers=shared).build_algo()
    fragment = algo.env_runner.sample_fragment(9).modules["default_policy"]
    values = algo.learner_group._learner.values_of_fragment("default_policy", fragment)
    assert np.allclose(fragment[Columns.VF_PREDS], values, atol=1e-5)
    algo.stop()


class Nothing(ConnectorV2):
    """Changes nothing, by episodes."""

    def __call__(self, *, rl_module, batch, episodes, **kwargs):
        return batch


def test_a_learner_connector_keeps_the_states_before_sequences():
    algo = recurrent().learners(learner_connector=lambda *_: Nothing()).build_algo()
    algo.env_runner.sample_fragment(9)
    sample = algo.env_runner.sample_fragment(9)
    found = algo.learner_group._learner.prepare([sample])["default_policy"][Columns.STATE_IN]
    wanted = sample.modules["default_policy"][Columns.STATE_IN]
    for name, states in wanted.items():
        rows = states[[0, 4, 8]].swapaxes(0, 1).reshape(6, *states.shape[2:])
        assert np.array_equal(found[name].numpy(), rows)
    algo.stop()


@pytest.mark.parametrize("length", [7, 70])
@pytest.mark.parametrize("lstm", [False, True])
def test_a_learner_connector_keeps_the_rows_of_several_chunks_together(lstm, length):
    def rows(*connector):
        settings = recurrent(length) if lstm else config(Counting, env_config={"length": length})
        algo = settings.learners(learner_connector=connector[0] if connector else None).build_algo()
        samples = [algo.env_runner.sample_fragment(5) for _ in range(2)]
        batch = algo.learner_group._learner.prepare(samples)["default_policy"]
        algo.stop()
        mask = batch.get(Columns.LOSS_MASK, batch[Columns.REWARDS] > 0)
        names = (Columns.REWARDS, Columns.ACTION_LOGP, Columns.VALUE_TARGETS)
        columns = [batch[Columns.OBS][mask][:, 0], *(batch[name][mask] for name in names)]
        return np.array(sorted(torch.stack(columns, 1).tolist()))

    assert np.allclose(rows(lambda *_: Nothing()), rows(), atol=1e-4)


def test_a_failed_environment_is_made_anew_alone_and_its_step_is_left_out():
    made = runner(Counting, 2, env_config={"fail_at": 5, "length": 10})
    with pytest.raises(RuntimeError, match="the simulator crashed"):
        made.sample_fragment(20)
    settings = config(Counting, 1, env_config={"fail_at": 5, "length": 10})
    settings.fault_tolerance(restart_failed_sub_environments=True)
    sample = SingleAgentEnvRunner(config=settings).sample_fragment(7)
    found = sample.modules["default_policy"]
    # The check of the environment made one step already.
    assert found.loss_mask[:, 0].tolist() == [True, True, True, False, True, True, True]
    assert found[Columns.OBS][:, 0, 0].tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert found.first[4, 0] and not found.dones.any()
    assert sample.faults == {"num_env_steps_failed_lifetime": 1}


def test_environments_that_only_fail_end_the_sample():
    settings = config(Counting, 2, env_config={"fail_at": 1}).fault_tolerance(restart_failed_sub_environments=True)
    with pytest.raises(RuntimeError, match="no environment made a step in 100 rows"):
        SingleAgentEnvRunner(config=settings.environment(disable_env_checking=True)).sample_fragment(steps=1)


def test_rewards_are_clipped_for_learning_but_not_in_returns():
    settings = config(Counting, 1)
    settings.environment(clip_rewards=True)
    sample = SingleAgentEnvRunner(config=settings).sample_fragment(3)
    assert sample.modules["default_policy"][Columns.REWARDS][:, 0].tolist() == [1, 1, 1]
    assert sample.episodes[0].episode_return == 6.0
    settings.environment(clip_rewards=1.5)
    found = fragment_of(SingleAgentEnvRunner(config=settings), 3)
    assert found[Columns.REWARDS][:, 0].tolist() == [1, 1.5, 1.5]


def test_sample_gives_episodes_with_infos_and_chunks_that_follow_each_other():
    made = runner(Counting, 1)
    (first,) = made.sample(num_timesteps=2)
    done, rest = made.sample(num_timesteps=2)
    assert (first.id_, first.is_done, len(first)) == (done.id_, False, 2)
    assert (done.is_terminated, len(done), done.get_infos(-1)) == (True, 1, {"steps": 3})
    assert done.get_rewards(-1, neg_index_as_lookback=True) == 2.0
    assert {Columns.ACTION_LOGP, "weights_seq_no"} <= set(rest.extra_model_outputs)
    assert [len(one) for one in made.sample(num_episodes=2)] == [3, 3]
    metrics = made.get_metrics()
    assert metrics["episode_return_mean"].peek() == 6.0


class Watching(RLlibCallback):
    """Writes down which hooks were called."""

    seen: list = []

    def on_environment_created(self, *, env, **kwargs):
        self.seen.append("environment")

    def on_episode_created(self, *, episode, **kwargs):
        self.seen.append(("created", len(episode)))

    def on_episode_start(self, *, episode, **kwargs):
        self.seen.append(("start", episode.get_infos(-1)["steps"]))

    def on_episode_step(self, *, episode, **kwargs):
        self.seen.append(("step", episode.get_infos(-1)["steps"]))

    def on_episode_end(self, *, episode, metrics_logger, prev_episode_chunks, **kwargs):
        self.seen.append(("end", episode.get_return(), prev_episode_chunks))
        metrics_logger.log_value("longest", len(episode), reduce="max")

    def on_sample_end(self, *, samples, **kwargs):
        self.seen.append(("sample", sum(map(len, samples))))


def test_callbacks_see_every_step_and_what_they_log_comes_with_the_sample():
    Watching.seen = []
    settings = config(Counting, 1).callbacks(Watching)
    sample = SingleAgentEnvRunner(config=settings).sample_fragment(5)
    assert Watching.seen == [
        "environment",
        ("created", 0),
        ("start", 0),
        ("step", 1),
        ("step", 2),
        ("step", 3),
        ("end", 6.0, []),
        ("created", 0),
        ("start", 0),
        ("step", 1),
        ("sample", 4),
    ]
    assert sample.metrics["longest"].peek() == 3


class Doubled(SingleAgentObservationPreprocessor):
    """A connector as users write them, which works on episodes."""

    def recompute_output_observation_space(self, input_observation_space, input_action_space):
        return gym.spaces.Box(0, 200, (2,), np.float32)

    def preprocess(self, observation, episode):
        return np.repeat(observation * 2, 2)


def test_connectors_of_users_work_on_episodes():
    made = runner(Counting, 2, env_to_module_connector=lambda env, spaces, device: Doubled())
    found = fragment_of(made, 5)
    assert found[Columns.OBS][:, 0].tolist() == [[0, 0], [2, 2], [4, 4], [6, 6], [0, 0], [2, 2]]
    assert made.get_spaces()["default_policy"][0].shape == (2,)
    assert made.sample(num_timesteps=2)[0].get_observations(-1).shape == (2,)


class Kept(SingleAgentObservationPreprocessor):
    """Changes nothing, by episodes."""

    def preprocess(self, observation, episode):
        return observation


def test_frames_of_before_a_cut_are_still_stacked():
    pieces = [Kept(), FrameStackingEnvToModule(num_frames=4)]
    made = runner(Counting, 1, env_config={"length": 9}, env_to_module_connector=lambda *_: pieces)
    seen = []
    for _ in range(5):
        made.sample(num_timesteps=1)
        seen.append(made._obs[0].tolist())
    assert seen == [[0, 0, 0, 1], [0, 0, 1, 2], [0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5]]


def test_an_episode_without_an_end_does_not_grow_for_connectors():
    pieces = [Kept(), FrameStackingEnvToModule(num_frames=4)]
    made = runner(Counting, 1, env_config={"length": 90}, env_to_module_connector=lambda *_: pieces)
    found = [fragment_of(made, 5)[Columns.OBS] for _ in range(3)]
    assert found[-1][-1, 0].tolist() == [12, 13, 14, 15]
    assert found[-1][1, 0].tolist() == [8, 9, 10, 11]
    assert len(made._live.running[0].observations.data) == 4
    assert made._live.earlier == {}


def test_the_learners_connector_leaves_frames_that_the_runner_stacked():
    made = runner(Counting, 1, env_to_module_connector=lambda *_: FrameStackingEnvToModule(num_frames=3))
    episodes = fragment_of(made, 6).episodes()
    batch = FrameStackingLearner(num_frames=3)(rl_module=None, batch={}, episodes=episodes)
    found = [np.asarray(records[0]).tolist() for records in batch[Columns.OBS].values()]
    assert found == [[[0, 0, 0], [0, 0, 1], [0, 1, 2]], [[0, 0, 0], [0, 0, 1]]]


def test_weights_may_come_between_rows():
    made = runner(Counting, 1)
    weights = {"default_policy": {name: value * 0 + 1 for name, value in made.module.get_state().items()}}
    rows = iter(range(100))

    def between():
        if next(rows) == 2:
            made.set_weights(7, weights)

    made.between_rows = between
    sample = made.sample_fragment(4)
    assert (sample.version, sample.versions) == (0, [(2, 7)])
    assert all(
        np.array_equal(made.module.get_state()[name], value) for name, value in weights["default_policy"].items()
    )


def test_environments_know_their_places():
    made = SingleAgentEnvRunner(config=config(Counting, 2), worker_index=3)
    assert [env.place for env in made.env.envs] == [(0, 3), (1, 3)]


class NoSpaces(gym.Env):
    def __init__(self, config):
        pass


class WrongObservation(Counting):
    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float64), {}


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ("NoSuchEnv-v0", "is no environment that gymnasium or `tune.register_env` knows"),
        (NoSpaces, "set self.observation_space"),
        (WrongObservation, "outside of its observation_space .*float64 of shape"),
        (lambda config: "nothing", "no gymnasium.Env"),
        ("envpool:CartPole-v1", None),
    ],
)
def test_errors_say_what_to_do(env, message):
    if message is None:
        pytest.importorskip("envpool")
        assert fragment_of(runner(env, 4), 5).valid_steps == 20
        return
    with pytest.raises(EnvError, match=message):
        runner(env)

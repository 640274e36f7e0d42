"""The runner for several agents, and the environments that it takes."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from small_envs import Counting, InTurn, Masked

from hpc.rllib.algorithms.ppo import PPOConfig
from hpc.rllib.callbacks.callbacks import RLlibCallback
from hpc.rllib.connectors.env_to_module import FrameStackingEnvToModule, MeanStdFilter
from hpc.rllib.core.columns import Columns
from hpc.rllib.core.rl_module.default_model_config import DefaultModelConfig
from hpc.rllib.env.env_errors import EnvError
from hpc.rllib.env.fragment import ACTION_MASK
from hpc.rllib.env.multi_agent_env import MultiAgentEnv, make_multi_agent
from hpc.rllib.env.multi_agent_env_runner import MultiAgentEnvRunner
from hpc.rllib.utils.replay_buffers import MultiAgentEpisodeReplayBuffer


def config(env, envs=2, *, env_config=None, one_module=False, **env_runners) -> PPOConfig:
    modules = {"shared"} if one_module else {"of_x", "of_y"}
    return (
        PPOConfig()
        .environment(env, env_config=env_config or {})
        .env_runners(num_envs_per_env_runner=envs, **env_runners)
        .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[8]))
        .debugging(seed=0)
        .multi_agent(
            policies=modules,
            policy_mapping_fn=lambda agent_id, episode, **kwargs: "shared" if one_module else f"of_{agent_id}",
        )
    )


def test_agents_that_act_in_turn_and_leave():
    sample = MultiAgentEnvRunner(config=config(InTurn)).sample_fragment(6)
    of_x, of_y = sample.modules["of_x"], sample.modules["of_y"]
    assert sample.env_steps == 12
    assert sample.agent_steps == {"x": 2, "y": 10}  # observations that came, as RLlib counts
    assert of_x[Columns.OBS][:3, 0, 0].tolist() == [0, 2, 2]  # x left: the observation that it acted on stands in
    assert of_x[Columns.TERMINATEDS][:, 0].tolist() == [False, True]
    assert of_y[Columns.OBS][:, 0, 0].tolist() == [1, 3, 4, 5, 6]
    assert of_y[Columns.ACTION_DIST_INPUTS].shape == (4, 2, 3)
    assert of_y.owners == [(0, "y"), (1, "y")]
    record = sample.episodes[0]
    assert (record.length, record.agents, record.modules) == (6, {"x": 2.0, "y": 4.0}, {"of_x": 2.0, "of_y": 4.0})


def test_chunks_of_agents_in_turn_lose_no_step():
    made = MultiAgentEnvRunner(config=config(InTurn, 1))
    samples = [made.sample_fragment(1) for _ in range(6)]
    steps = [sum(fragment.valid_steps for fragment in sample.modules.values()) for sample in samples]
    assert sum(steps) == 6
    assert [len(sample.episodes) for sample in samples] == [0, 0, 0, 0, 0, 1]
    assert samples[-1].episodes[0].agents == {"x": 2.0, "y": 4.0}


def test_one_module_acts_for_all_agents():
    env = make_multi_agent(lambda settings: Counting(settings))
    made = MultiAgentEnvRunner(config=config(env, env_config={"num_agents": 3}, one_module=True))
    sample = made.sample_fragment(3)
    assert (sample.env_steps, sample.module_steps) == (6, {"shared": 18})
    assert sample.modules["shared"].width == 6
    assert sample.episodes[0].episode_return == 18.0
    assert made.sample_fragment(episodes=2).modules["shared"].dones.any()


def test_the_same_seed_gives_the_same_fragments():
    def sample():
        torch.manual_seed(0)
        return MultiAgentEnvRunner(config=config(InTurn)).sample_fragment(9)

    one, other = sample(), sample()
    for module_id, fragment in one.modules.items():
        for name, column in fragment.columns.items():
            assert np.array_equal(column, other.modules[module_id][name]), (module_id, name)


def test_masks_and_connectors_by_agent():
    env = make_multi_agent(lambda settings: Masked(settings))
    settings = config(
        env,
        env_config={"num_agents": 2},
        one_module=True,
        env_to_module_connector=lambda env, spaces, device: MeanStdFilter(multi_agent=True),
    )
    made = MultiAgentEnvRunner(config=settings)
    fragment = made.sample_fragment(30).modules["shared"]
    made.sample_fragment(5, random_actions=True)
    assert fragment[ACTION_MASK].shape[2] == 5
    assert sum(inner.refused for whole in made.env.envs for inner in whole.envs) == 0
    assert set(made.get_state("env_to_module_connector")["env_to_module_connector"]["MeanStdFilter"]) == {0, 1}


def test_what_a_chunk_led_to_has_its_mask():
    env = make_multi_agent(lambda settings: Masked(settings))
    made = MultiAgentEnvRunner(config=config(env, 1, env_config={"num_agents": 2}, one_module=True))
    found = [made.sample_fragment(3).modules["shared"][ACTION_MASK] for _ in range(2)]
    assert np.array_equal(found[0][3], found[1][0])
    assert 0 < found[0][3].sum() <= 4


def stacked(env, spaces, device):
    return FrameStackingEnvToModule(num_frames=4, multi_agent=True)


@pytest.mark.parametrize("rows", [1, 2, 6])
def test_fragments_hold_stacked_frames_of_several_chunks(rows):
    env = make_multi_agent(lambda settings: Counting(settings))
    settings = config(env, 1, env_config={"num_agents": 2, "length": 6}, one_module=True)
    made = MultiAgentEnvRunner(config=settings.env_runners(env_to_module_connector=stacked))
    found = [made.sample_fragment(rows).modules["shared"][Columns.OBS] for _ in range(6 // rows)]
    wanted = [[max(t - back, 0) for back in (3, 2, 1, 0)] for t in range(7)]
    for agent in range(2):
        assert [row for part in found for row in part[:-1, agent].tolist()] == wanted[:-1]
        assert found[-1][-1, agent].tolist() == wanted[-1]


def test_frames_of_agents_in_turn_go_on_in_the_next_chunk():
    made = MultiAgentEnvRunner(config=config(InTurn, 1, env_to_module_connector=stacked))
    found = [made.sample_fragment(1).modules for _ in range(6)]
    of_y = [part["of_y"][Columns.OBS][:, 0].tolist() for part in found if "of_y" in part]
    assert of_y == [
        [[0, 0, 0, 1], [0, 0, 1, 3]],
        [[0, 0, 1, 3], [0, 1, 3, 4]],
        [[0, 1, 3, 4], [1, 3, 4, 5]],
        [[1, 3, 4, 5], [3, 4, 5, 6]],
    ]


def test_a_failed_environment_is_made_anew_and_its_steps_are_kept():
    env = make_multi_agent(lambda settings: Counting(settings))
    settings = config(env, 1, env_config={"num_agents": 2, "length": 10, "fail_at": 3}, one_module=True)
    settings.fault_tolerance(restart_failed_sub_environments=True)
    sample = MultiAgentEnvRunner(config=settings).sample_fragment(4)
    assert (sample.env_steps, sample.module_steps, sample.episodes) == (3, {"shared": 6}, [])
    assert sample.faults == {"num_env_steps_failed_lifetime": 1}


def test_whole_episodes_are_given_without_those_that_failed_or_go_on():
    env = make_multi_agent(lambda settings: Counting({**settings, "length": 3 + 2 * settings.vector_index}))
    settings = config(env, 2, env_config={"num_agents": 2}, one_module=True)
    sample = MultiAgentEnvRunner(config=settings).sample_fragment(episodes=1)
    assert (sample.env_steps, sample.agent_steps, sample.module_steps) == (3, {"0": 3, "1": 3}, {"shared": 6})
    env = make_multi_agent(lambda settings: Counting(settings))
    settings = config(env, 1, env_config={"num_agents": 2, "length": 4, "fail_at": 6}, one_module=True)
    settings.fault_tolerance(restart_failed_sub_environments=True)
    sample = MultiAgentEnvRunner(config=settings).sample_fragment(episodes=2)
    assert [record.length for record in sample.episodes] == [4, 4]
    fragment = sample.modules["shared"]
    assert (fragment.width, fragment.rows, fragment.valid_steps) == (4, 4, 16)
    assert sample.agent_steps == {"0": 8, "1": 8}
    in_turn = MultiAgentEnvRunner(config=config(InTurn, 1))
    assert in_turn.sample_fragment(episodes=2).agent_steps == in_turn.sample_fragment(12).agent_steps


class Placed(Counting):
    """Observes 100 times its place too; it ends after 6 steps at place 1, else after 10."""

    def __init__(self, config):
        super().__init__({"length": 6 if config.vector_index == 1 else 10})
        self.base = 100 * (2 * config.worker_index + config.vector_index)
        self.observation_space = gym.spaces.Box(0, 1000, (1,), np.float32)

    def reset(self, **how):
        return super().reset(**how)[0] + self.base, {}

    def step(self, action):
        observation, *rest = super().step(action)
        return observation + self.base, *rest


def test_a_buffer_goes_on_with_the_same_agent_of_the_same_environment():
    env = make_multi_agent(Placed)
    settings = config(env, 2, env_config={"num_agents": 2}, one_module=True)
    runners = [MultiAgentEnvRunner(config=settings, worker_index=at, num_workers=2) for at in (1, 2)]
    buffer = MultiAgentEpisodeReplayBuffer(capacity=1000)
    for _ in range(6):
        for one in runners:
            buffer.add(one.sample_fragment(4))
    batch = buffer.sample_batches(500)["shared"]
    assert np.array_equal(batch[Columns.OBS] + 1, batch[Columns.NEXT_OBS])
    batch = buffer.sample_batches(500, n_step=3)["shared"]
    assert (batch["n_step"][~batch[Columns.TERMINATEDS]] == 3).mean() > 0.9
    assert np.array_equal((batch[Columns.NEXT_OBS] - batch[Columns.OBS])[:, 0], batch["n_step"])


def test_random_actions_come_of_the_seed():
    def actions():
        made = MultiAgentEnvRunner(config=config(InTurn))
        return made.sample_fragment(12, random_actions=True).modules["of_y"][Columns.ACTIONS].tolist()

    assert actions() == actions()


class Hooks(RLlibCallback):
    """Writes down which hooks were called."""

    seen: list = []

    def on_episode_start(self, *, episode, **kwargs):
        self.seen.append(("start", len(episode)))

    def on_episode_end(self, *, episode, prev_episode_chunks, **kwargs):
        self.seen.append(("end", len(episode), [len(chunk) for chunk in prev_episode_chunks]))


def test_callbacks_get_the_chunks_of_before():
    Hooks.seen = []
    made = MultiAgentEnvRunner(config=config(InTurn, 1).callbacks(Hooks))
    made.sample_fragment(4)
    made.sample_fragment(3)
    assert Hooks.seen == [("start", 0), ("end", 2, [4]), ("start", 0)]


def test_an_unknown_module_is_told():
    settings = config(InTurn)
    settings.multi_agent(policy_mapping_fn=lambda agent_id, episode, **kwargs: "nobody")
    with pytest.raises(ValueError, match="no agent of the environment is mapped to it"):
        MultiAgentEnvRunner(config=settings).sample_fragment(1)


class NoAll(InTurn):
    def step(self, action_dict):
        observations, rewards, _, truncateds, infos = super().step(action_dict)
        return observations, rewards, {}, truncateds, infos


class NoAgents(MultiAgentEnv):
    def __init__(self, config):
        super().__init__()


@pytest.mark.parametrize(
    ("env", "message"),
    [(NoAll, "'__all__': True|False must be included"), (NoAgents, "no possible_agents"), (Counting, "MultiAgentEnv")],
)
def test_errors_say_what_to_do(env, message):
    with pytest.raises(EnvError, match=message):
        MultiAgentEnvRunner(config=config(env)).sample_fragment(1)


def test_environments_of_pettingzoo():
    rps = pytest.importorskip("pettingzoo.classic.rps_v2")
    from hpc.rllib.env.wrappers.pettingzoo_env import ParallelPettingZooEnv, PettingZooEnv

    kinds = [
        lambda _: ParallelPettingZooEnv(rps.parallel_env(max_cycles=3)),
        lambda _: PettingZooEnv(rps.env(max_cycles=3)),
    ]
    for kind in kinds:
        made = MultiAgentEnvRunner(config=config(kind, 1, one_module=True))
        sample = made.sample_fragment(episodes=2)
        record = sample.episodes[0]
        assert record.agent_steps == {"player_0": 3, "player_1": 3}
        assert record.agents["player_0"] == -record.agents["player_1"]
        assert sample.modules["shared"].dones.sum() == 4


def test_groups_of_agents_act_as_one():
    env = make_multi_agent(lambda settings: Counting(settings))({"num_agents": 3}).with_agent_groups({"pair": [0, 1]})
    observations, _ = env.reset()
    assert set(observations) == {"pair", 2} and len(observations["pair"]) == 2
    observations, rewards, terminateds, _, infos = env.step({"pair": [0, 1], 2: 0})
    assert (rewards["pair"], rewards[2], terminateds["__all__"]) == (2.0, 1.0, False)
    assert infos["pair"]["_group_rewards"] == [1.0, 1.0]

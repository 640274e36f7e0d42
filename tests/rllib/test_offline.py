"""Recorded data: what RLlib and our runners write is read; passes over it; targets of values."""

from __future__ import annotations

import json

import gymnasium as gym
import numpy as np
import pytest
import torch

from hpc.rllib.agent import Agent
from hpc.rllib.algorithms.bc import BCConfig
from hpc.rllib.algorithms.marwil import MARWILConfig
from hpc.rllib.core.columns import Columns
from hpc.rllib.core.rl_module.default_model_config import DefaultModelConfig
from hpc.rllib.env.single_agent_episode import SingleAgentEpisode
from hpc.rllib.offline.learning import values_of_pieces
from hpc.rllib.offline.offline_data import OfflineData
from hpc.rllib.offline.packing import pack_episode, unpack_episode
from hpc.rllib.utils.trees import map_tree

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def steps(lengths=(3, 2), *, cut=(False, True)):
    """Rows of episodes; an observation is (episode, step), a reward its step plus 1."""
    rows = []
    for episode, (length, truncated) in enumerate(zip(lengths, cut, strict=True)):
        for t in range(length):
            last = t == length - 1
            rows.append(
                {
                    "eps_id": f"e{episode}",
                    "t": t,
                    "obs": [float(episode), float(t)],
                    "new_obs": [float(episode), float(t + 1)],
                    "actions": t % 2,
                    "rewards": t + 1.0,
                    "terminateds": last and not truncated,
                    "truncateds": last and truncated,
                }
            )
    return rows


def data_of(tmp_path, rows, config=None, **settings):
    path = tmp_path / "data.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    config = config or BCConfig()
    config.offline_data(input_=[str(path)], dataset_num_iters_per_learner=1, **settings).debugging(seed=0)
    return OfflineData(config)


def check(batch):
    for i, (episode, t) in enumerate(batch[Columns.OBS].astype(int)):
        assert batch[Columns.NEXT_OBS][i].tolist() == [episode, t + 1]
        assert batch[Columns.ACTIONS][i] == t % 2
        assert batch[Columns.REWARDS][i] == t + 1
        assert batch[Columns.TERMINATEDS][i] == (episode == 0 and t == 2)
        assert batch[Columns.TRUNCATEDS][i] == (episode == 1 and t == 1)


def test_a_pass_has_each_step_once(tmp_path):
    data = data_of(tmp_path, steps())
    for _ in range(3):
        batch = data.sample(5)["default_policy"]
        check(batch)
        assert sorted(batch[Columns.OBS].tolist()) == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1]]
    assert data.passes == 3


def test_rows_in_any_order_are_read(tmp_path):
    rows = steps()
    data = data_of(tmp_path, [rows[i] for i in (3, 0, 4, 2, 1)])
    check(data.sample(5)["default_policy"])


def test_json_rows_and_a_schema_of_the_users(tmp_path):
    rows = [{("state" if key == "obs" else key): value for key, value in row.items()} for row in steps()]
    path = tmp_path / "rows.json"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = BCConfig().offline_data(
        input_=str(tmp_path), input_read_method="read_json", input_read_schema={"obs": "state"}
    )
    check(OfflineData(config).sample(5)["default_policy"])


def test_without_new_obs_the_next_row_tells(tmp_path):
    rows = [{key: value for key, value in row.items() if key != "new_obs"} for row in steps()]
    data = data_of(tmp_path, rows)
    assert len(data) == 4, "what the last step of the truncated episode led to is not known"
    batch = data.sample(4)["default_policy"]
    inside = ~batch[Columns.TERMINATEDS]
    assert (batch[Columns.NEXT_OBS][inside] == batch[Columns.OBS][inside] + [0, 1]).all()
    assert len(data_of(tmp_path, rows, ignore_final_observation=True)) == 5


def test_what_is_missing_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        OfflineData(BCConfig().offline_data(input_=str(tmp_path / "nowhere")))
    with pytest.raises(ValueError, match="input_read_schema"):
        data_of(tmp_path, [{"state": [0.0], "actions": 1}])
    with pytest.raises(ValueError, match="input_read_episodes=False"):
        data_of(tmp_path, steps(), input_read_episodes=True)
    with pytest.raises(ValueError, match="ignore_final_observation"):
        data_of(tmp_path, [{"obs": [0.0], "actions": 1}])
    data_of(tmp_path, [{"obs": [0.0], "actions": 1}], ignore_final_observation=True)


def targets_of(tmp_path, lambda_, values, next_values):
    config = MARWILConfig().training(gamma=0.5)
    config.lambda_ = lambda_
    data = data_of(tmp_path, steps(), config)
    data.set_values(np.array(values, np.float32), np.array(next_values, np.float32))
    batch = data.sample(5)["default_policy"]
    order = np.lexsort(batch[Columns.OBS].T[::-1])
    return batch[Columns.VALUE_TARGETS][order].tolist()


def test_targets_are_returns_with_a_bootstrap_at_the_cut(tmp_path):
    got = targets_of(tmp_path, 1.0, [9, 9, 9, 9, 9], [9, 9, 9, 9, 8])
    # Episode 0: 1 + .5 * 2 + .25 * 3. Episode 1 was cut: 2 + .5 * 8 at its end.
    assert got == pytest.approx([2.75, 3.5, 3.0, 1 + 0.5 * 6, 6.0])


def test_targets_with_lambda_0_look_one_step_ahead(tmp_path):
    got = targets_of(tmp_path, 0.0, [1, 2, 3, 4, 5], [2, 3, 0, 5, 8])
    assert got == pytest.approx([1 + 0.5 * 2, 2 + 0.5 * 3, 3.0, 1 + 0.5 * 5, 2 + 0.5 * 8])


@pytest.mark.parametrize("kind", [BCConfig, MARWILConfig])
def test_stateful_modules_learn_from_sequences(tmp_path, kind):
    data_of(tmp_path, steps((9, 7)))
    spaces = {"observation_space": gym.spaces.Box(-9, 9, (2,)), "action_space": gym.spaces.Discrete(2)}
    model = DefaultModelConfig(fcnet_hiddens=[8], use_lstm=True, lstm_cell_size=4, max_seq_len=4)
    config = kind().environment(**spaces).rl_module(model_config=model).training(train_batch_size_per_learner=8)
    config.training(burnin_len=1).offline_data(input_=[str(tmp_path)], dataset_num_iters_per_learner=2)
    algo = config.debugging(seed=0).build_algo()
    assert np.isfinite(algo.train()["learners"]["default_policy"]["policy_loss"])
    if kind is BCConfig:
        return
    module, data = algo._module, algo.offline_data
    values, following = values_of_pieces(module, *data.observations(), data.goes_on())
    state = module.get_initial_state()
    state = map_tree(lambda leaf: leaf[None], state)
    for t, obs in enumerate(data.observations()[0][:9]):
        batch = {Columns.OBS: torch.as_tensor(obs)[None, None], Columns.STATE_IN: state}
        assert values[t] == pytest.approx(module.compute_values(batch).item(), abs=1e-5)
        assert t == 0 or following[t - 1] == values[t]
        state = module.forward_inference(batch)[Columns.STATE_OUT]
    batch = {Columns.OBS: torch.tensor([[[0.0, 9.0]]]), Columns.STATE_IN: state}
    assert following[8] == pytest.approx(module.compute_values(batch).item(), abs=1e-5)
    batch = data.sample(8, sequences_of=4)["default_policy"]
    assert batch[Columns.VALUE_TARGETS].shape == batch[Columns.LOSS_MASK].shape


def recorded():
    return SingleAgentEpisode(
        id_="e", observations=[np.array([0.0, t], np.float32) for t in range(4)], actions=[0, 1, 0],
        rewards=[1.0, 2.0, 3.0], terminated=True, len_lookback_buffer=0,
        extra_model_outputs={"action_logp": [np.float32(-0.5)] * 3},
    )  # fmt: skip


def test_episodes_go_around(tmp_path):
    pytest.importorskip("msgpack")
    episode = recorded()
    for one in (episode, recorded().to_numpy()):
        other = unpack_episode(pack_episode(one))
        assert np.array_equal(other.get_observations(), one.get_observations())
        assert np.array_equal(other.get_actions(), one.get_actions())
        assert other.is_terminated
        assert len(other) == 3
        assert np.allclose(other.get_extra_model_outputs("action_logp"), -0.5)
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table({"item": [pack_episode(episode), pack_episode(recorded().to_numpy())]}), path)
    config = BCConfig().offline_data(input_=str(path), input_read_episodes=True)
    batch = OfflineData(config).sample(6)["default_policy"]
    assert sorted(batch[Columns.OBS][:, 1].tolist()) == [0, 0, 1, 1, 2, 2]
    assert batch[Columns.TERMINATEDS].sum() == 2


def test_what_cannot_be_recorded_is_told():
    pytest.importorskip("msgpack")
    episode = SingleAgentEpisode(observations=[object(), object()], actions=[0], rewards=[0.0], len_lookback_buffer=0)
    with pytest.raises(TypeError, match="cannot be recorded"):
        pack_episode(episode)


def learnt(tmp_path, config):
    """An algorithm that has learnt from rows of four numbers for two iterations."""
    rows = steps(cut=(False, False))
    for row in rows:
        row["obs"], row["new_obs"] = [*row["obs"], 0.0, 0.0], [*row["new_obs"], 0.0, 0.0]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data.parquet")
    config.offline_data(input_=[str(tmp_path / "data.parquet")], dataset_num_iters_per_learner=2)
    algorithm = config.training(train_batch_size_per_learner=5, lr=0.1).debugging(seed=0).build_algo()
    for _ in range(2):
        algorithm.train()
    return algorithm


@pytest.mark.parametrize("kind", [BCConfig, MARWILConfig])
def test_what_was_learnt_from_data_acts_at_once(tmp_path, kind):
    config = kind().environment("CartPole-v1").evaluation(evaluation_interval=9, evaluation_duration=1)
    algorithm = learnt(tmp_path, config)
    try:
        acting = algorithm.get_module().get_state()
        newest = algorithm.get_weights()["default_policy"]
        assert acting and all(np.array_equal(acting[name], newest[name]) for name in acting)
        agent = Agent.from_checkpoint(algorithm.save_to_path(tmp_path / "one"))
        for seen in np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32):
            assert agent.act(seen) == algorithm.act(seen)
    finally:
        algorithm.stop()


def test_what_was_learnt_without_an_environment_acts_from_its_checkpoint(tmp_path):
    spaces = {"observation_space": gym.spaces.Box(-9, 9, (4,), np.float32), "action_space": gym.spaces.Discrete(2)}
    algorithm = learnt(tmp_path, BCConfig().environment(**spaces))
    agent = Agent.from_checkpoint(algorithm.save_to_path(tmp_path / "one"))
    assert agent.act(np.zeros(4, np.float32)) in (0, 1)
    with pytest.raises(ValueError, match=r"use .*Agent.from_checkpoint"):
        algorithm.act(np.zeros(4, np.float32))
    algorithm.stop()


def test_settings_that_contradict_each_other():
    def quick(kind, **settings):
        return kind().environment("CartPole-v1").evaluation(evaluation_interval=1).offline_data(input_="x", **settings)

    with pytest.raises(ValueError, match="dataset_num_iters_per_learner"):
        quick(BCConfig).validate()
    with pytest.raises(ValueError, match="beta"):
        quick(BCConfig, dataset_num_iters_per_learner=1).training(beta=0.5).validate()
    with pytest.raises(ValueError, match="within 0"):
        quick(MARWILConfig, dataset_num_iters_per_learner=1).training(beta=1.5).validate()
    quick(MARWILConfig, dataset_num_iters_per_learner=1).validate()


@pytest.mark.parametrize("episodes", [True, False])
def test_a_runner_writes_what_data_reads(tmp_path, episodes):
    if episodes:
        pytest.importorskip("msgpack")
    from hpc.rllib.algorithms.ppo import PPOConfig
    from hpc.rllib.offline.offline_env_runner import OfflineSingleAgentEnvRunner

    config = (
        PPOConfig()
        .environment("CartPole-v1")
        .env_runners(num_env_runners=0, num_envs_per_env_runner=2)
        .offline_data(output=str(tmp_path), output_write_episodes=episodes)
        .debugging(seed=0)
    )
    runner = OfflineSingleAgentEnvRunner(config=config, worker_index=0, num_workers=0)
    samples = [runner.sample_fragment(rows=30) for _ in range(2)]
    runner.stop()
    assert len(list(tmp_path.rglob("*.parquet"))) == 2
    assert not list(tmp_path.rglob("*.part"))
    data = OfflineData(BCConfig().offline_data(input_=str(tmp_path), input_read_episodes=episodes))
    assert len(data) == sum(sample.env_steps for sample in samples)
    batch = data.sample(len(data))["default_policy"]
    fragments = [sample.modules["default_policy"] for sample in samples]
    seen = np.concatenate([fragment.flat(next_obs=True)[Columns.NEXT_OBS] for fragment in fragments])
    order, other = np.lexsort(seen.T), np.lexsort(batch[Columns.NEXT_OBS].T)
    np.testing.assert_allclose(seen[order], batch[Columns.NEXT_OBS][other], rtol=1e-6)
    assert batch[Columns.TERMINATEDS].sum() == sum(fragment[Columns.TERMINATEDS].sum() for fragment in fragments)


def test_rows_of_a_file_and_what_is_left(tmp_path):
    from hpc.rllib.algorithms.ppo import PPOConfig
    from hpc.rllib.offline.offline_env_runner import OfflineSingleAgentEnvRunner

    config = (
        PPOConfig()
        .environment("CartPole-v1")
        .env_runners(num_env_runners=0)
        .offline_data(
            output=str(tmp_path), output_write_episodes=False, output_max_rows_per_file=8,
            output_write_method="write_json", output_write_remaining_data=True,
        )
    )  # fmt: skip
    runner = OfflineSingleAgentEnvRunner(config=config, worker_index=0, num_workers=0)
    steps_made = runner.sample_fragment(rows=20).env_steps
    counts = [len(file.read_text().splitlines()) for file in sorted(tmp_path.rglob("*.json"))]
    assert counts == [8] * (steps_made // 8)
    runner.stop()
    counts = [len(file.read_text().splitlines()) for file in sorted(tmp_path.rglob("*.json"))]
    assert sum(counts) == steps_made

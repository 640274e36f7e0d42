"""Algorithms learn: with a fixed budget of steps and a bound that a broken loss does not reach."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from learned import best_of

from hpc.rllib.algorithms.bc import BCConfig
from hpc.rllib.algorithms.cql import CQLConfig
from hpc.rllib.algorithms.dqn import DQNConfig
from hpc.rllib.algorithms.marwil import MARWILConfig
from hpc.rllib.algorithms.ppo import PPOConfig
from hpc.rllib.algorithms.sac import SACConfig
from hpc.rllib.core.rl_module.default_model_config import DefaultModelConfig

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
BOX = gym.spaces.Box(-np.inf, np.inf, (4,), np.float32)


def test_ppo_balances_the_pole():
    config = (
        PPOConfig()
        .environment("CartPole-v1")
        .env_runners(num_envs_per_env_runner=8)
        .training(
            lr=0.001, num_epochs=6, lambda_=0.95, clip_param=0.2, use_kl_loss=False, vf_loss_coeff=0.005,
            vf_clip_param=10000.0, train_batch_size_per_learner=1024, minibatch_size=128,
        )
        .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[64], fcnet_activation="tanh"))
        .reporting(metrics_num_episodes_for_smoothing=20)
    )  # fmt: skip
    # A random policy has 22.
    assert best_of(config, 16_000) > 100


def test_dqn_balances_the_pole():
    config = (
        DQNConfig()
        .environment("CartPole-v1")
        .env_runners(num_envs_per_env_runner=8, rollout_fragment_length=4)
        .training(
            lr=0.001, train_batch_size_per_learner=128, n_step=3, training_intensity=16, td_error_loss_fn="mse",
            epsilon=[(0, 1.0), (6000, 0.02)], grad_clip=10.0,
        )
        .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[64], head_fcnet_hiddens=[64]))
        .reporting(metrics_num_episodes_for_smoothing=20)
    )  # fmt: skip
    assert best_of(config, 12_000) > 100


class Reach(gym.Env):
    """The reward is minus the distance of the action from half of the observation."""

    def __init__(self, config=None):
        self.observation_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        self.state = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return self.state, {}

    def step(self, action):
        reward = -float(abs(action[0] - 0.5 * self.state[0]))
        self.t += 1
        self.state = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return self.state, reward, False, self.t == 20, {}


def test_sac_reaches_a_target():
    config = (
        SACConfig()
        .environment(Reach)
        .training(
            actor_lr=3e-3, critic_lr=3e-3, alpha_lr=3e-3, gamma=0.5, train_batch_size_per_learner=64,
            target_entropy=-3.0, initial_alpha=0.2, num_steps_sampled_before_learning_starts=100,
        )
        .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[32], fusionnet_hiddens=[32], fcnet_activation="relu"))
        .reporting(
            min_sample_timesteps_per_iteration=200, min_time_s_per_iteration=0, metrics_num_episodes_for_smoothing=5
        )
    )  # fmt: skip
    # Random actions have -11.
    assert best_of(config, 1000) > -4.5


def expert_rows(episodes, noise, seed=0):
    """Steps of a rule that balances the pole, with some random actions."""
    rng = np.random.default_rng(seed)
    env = gym.make("CartPole-v1")
    rows = []
    for episode in range(episodes):
        obs, _ = env.reset(seed=episode)
        done = cut = False
        t = 0
        while not (done or cut) and t < 200:
            good = int(obs[2] + 0.5 * obs[3] + 0.05 * obs[1] > 0)
            action = int(rng.integers(2)) if rng.random() < noise else good
            after, reward, done, cut, _ = env.step(action)
            rows.append(
                {"eps_id": f"e{episode}", "t": t, "obs": obs.tolist(), "new_obs": after.tolist(), "actions": action,
                 "rewards": float(reward), "terminateds": done, "truncateds": cut or t == 199}
            )  # fmt: skip
            obs, t = after, t + 1
    return rows


def learnt(config, path, iterations):
    """The mean return of an evaluation after so many iterations on the data."""
    config = (
        config.environment("CartPole-v1")
        .offline_data(input_=[str(path)], dataset_num_iters_per_learner=25)
        .evaluation(evaluation_interval=iterations, evaluation_duration=5, evaluation_config={"explore": False})
        .debugging(seed=3)
        .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[32]))
    )
    algo = config.build_algo()
    try:
        for _ in range(iterations):
            result = algo.train()
        return result["evaluation"]["env_runners"]["episode_return_mean"], result
    finally:
        algo.stop()


def test_behaviour_cloning_of_an_expert(tmp_path):
    pq.write_table(pa.Table.from_pylist(expert_rows(15, noise=0.1)), tmp_path / "data.parquet")
    config = BCConfig().training(lr=3e-3, train_batch_size_per_learner=256)
    score, result = learnt(config, tmp_path, 4)
    assert score > 150
    assert result["learners"]["default_policy"]["policy_loss"] < 0.5
    assert result["num_env_steps_sampled_lifetime"] == 4 * 25 * 256


def test_marwil_prefers_the_better_of_mixed_data(tmp_path):
    pq.write_table(pa.Table.from_pylist(expert_rows(40, noise=0.6)), tmp_path / "data.parquet")
    config = MARWILConfig().training(lr=3e-3, beta=1.0, gamma=0.9, train_batch_size_per_learner=256)
    score, result = learnt(config, tmp_path, 4)
    assert score > 100
    stats = result["learners"]["default_policy"]
    # Half of the squared error of values that are all 0 is 42.
    assert stats["vf_loss"] < 15
    assert stats["moving_avg_sqd_adv_norm"] > 0


def test_cql_learns_of_recorded_steps(tmp_path):
    env, rng = Reach(), np.random.default_rng(0)
    obs, _ = env.reset(seed=0)
    rows = []
    for _ in range(600):
        action = rng.uniform(-1, 1, 1).astype(np.float32)
        after, reward, done, cut, _ = env.step(action)
        rows.append(
            {"obs": obs.tolist(), "new_obs": after.tolist(), "actions": action.tolist(), "rewards": reward,
             "terminateds": done, "truncateds": cut}
        )  # fmt: skip
        obs = env.reset()[0] if cut else after
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data.parquet")
    config = (
        CQLConfig()
        .environment(Reach)
        .offline_data(input_=[str(tmp_path)], dataset_num_iters_per_learner=50)
        .training(
            gamma=0.5, bc_iters=50, num_actions=4, min_q_weight=0.1, train_batch_size_per_learner=64, actor_lr=3e-3,
            critic_lr=3e-3, alpha_lr=3e-3, target_entropy=-3.0, initial_alpha=0.2,
        )
        .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[32], fusionnet_hiddens=[32], fcnet_activation="relu"))
        .evaluation(evaluation_interval=8, evaluation_duration=5, evaluation_config={"explore": False})
        .debugging(seed=3)
    )  # fmt: skip
    algo = config.build_algo()
    try:
        for _ in range(8):
            result = algo.train()
    finally:
        algo.stop()
    assert result["evaluation"]["env_runners"]["episode_return_mean"] > -6
    assert np.isfinite(result["learners"]["default_policy"]["cql_loss"])

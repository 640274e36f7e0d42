"""What reached its target late: modules with memory, and algorithms that learn while runners sample.

Learners see what runners saw, and with a fixed budget of steps the return passes a bound that a broken loss does not.
"""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from learned import best_of

from hpc.rllib.algorithms.appo import APPOConfig
from hpc.rllib.algorithms.impala import IMPALAConfig
from hpc.rllib.algorithms.ppo import PPOConfig
from hpc.rllib.core.columns import Columns
from hpc.rllib.examples.envs.classes.stateless_cartpole import StatelessCartPole


def best_alone(config, steps):
    """As `best_of`, with all in this process, looked at after each update."""
    config.learners(num_learners=0)
    config.reporting(metrics_num_episodes_for_smoothing=20, min_time_s_per_iteration=0)
    return best_of(config, steps)


def with_memory(config, shared=True, length=8):
    """A configuration whose module remembers."""
    model = {"fcnet_hiddens": [16], "lstm_cell_size": 16, "max_seq_len": length, "vf_share_layers": shared}
    return config.rl_module(model_config={"use_lstm": True, **model})


class Recall(gym.Env):
    """The first observation is a sign; the last action is to be that sign. Between them there is nothing to see."""

    def __init__(self, config=None):
        self.observation_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.sign = 0, int(self.np_random.integers(2))
        return np.array([2.0 * self.sign - 1.0], np.float32), {}

    def step(self, action):
        self.t += 1
        done = self.t == 5
        return np.zeros(1, np.float32), float(done and action == self.sign), done, False, {}


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("kind", [PPOConfig, IMPALAConfig])
def test_sequences_give_the_probabilities_and_values_of_acting(kind, shared):
    # States of runners, cuts of sequences, masks and the ends of episodes: each would show as a difference.
    config = with_memory(kind().environment(StatelessCartPole), shared=shared)
    config.env_runners(num_env_runners=0, num_envs_per_env_runner=3).learners(num_learners=0).debugging(seed=1)
    algo = config.build_algo()
    algo.env_runner.sample_fragment(rows=11)
    sample = algo.env_runner.sample_fragment(rows=60)
    learner = algo.learner_group._learner
    train = learner.prepare([sample])
    module = learner.module["default_policy"].unwrapped()
    rows = seen = train["default_policy"]
    if kind is IMPALAConfig:
        from hpc.rllib.algorithms.impala.torch.impala_torch_learner import by_batch

        seen = by_batch(rows)
    with torch.no_grad():
        out = module.forward_train(seen)
        logits, values = out[Columns.ACTION_DIST_INPUTS], module.compute_values(seen, embeddings=out["embeddings"])
    if kind is IMPALAConfig:
        logits, values = logits.transpose(0, 1)[:-1], values.transpose(0, 1)
    mask = rows[Columns.LOSS_MASK].bool()
    fragment = sample.modules["default_policy"]
    assert int(mask.sum()) == fragment.valid_steps and fragment.dones.any()
    logp = module.get_train_action_dist_cls().from_logits(logits).logp(rows[Columns.ACTIONS])
    assert torch.allclose(logp[mask], rows[Columns.ACTION_LOGP][mask], atol=1e-5)
    pieces = [
        (column, at, min(at + 8, end)) for column, start, end in fragment.segments() for at in range(start, end, 8)
    ]
    acted = fragment[Columns.VF_PREDS]
    for at, (column, start, end) in enumerate(pieces):
        # IMPALA's sequences have what comes after their last step: the bootstrap value.
        count = end - start + (kind is IMPALAConfig)
        own = values[:count, at] if kind is IMPALAConfig else values[at, :count]
        assert np.allclose(own.numpy(), acted[start : start + count, column], atol=1e-5)
    algo.stop()


def test_ppo_remembers():
    config = with_memory(PPOConfig().environment(Recall))
    config.env_runners(num_envs_per_env_runner=16).training(
        lr=0.01, train_batch_size_per_learner=512, minibatch_size=32, num_epochs=4, use_kl_loss=False,
        vf_loss_coeff=0.5, gamma=0.95, lambda_=0.9,
    )  # fmt: skip
    # Without memory, or with states that are another's, it is right half of the time.
    assert best_alone(config, 10_000) > 0.9


@pytest.mark.parametrize("kind", [IMPALAConfig, APPOConfig])
def test_asynchronous_algorithms_balance_the_pole(kind):
    config = kind().environment("CartPole-v1")
    config.env_runners(num_envs_per_env_runner=8, rollout_fragment_length=25).training(
        lr=0.002, train_batch_size_per_learner=200, vf_loss_coeff=0.05, entropy_coeff=0.0, gamma=0.97
    )
    config.rl_module(model_config={"fcnet_hiddens": [64], "vf_share_layers": True})
    # A random policy has 22.
    assert best_alone(config, 40_000) > 60

"""Learner connectors where fragments stay side by side: those of IMPALA and APPO."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from hpc.rllib.algorithms.appo import APPOConfig
from hpc.rllib.algorithms.impala import IMPALAConfig
from hpc.rllib.connectors.connector_v2 import ConnectorV2
from hpc.rllib.core.columns import Columns


class Nothing(ConnectorV2):
    """Changes nothing, by episodes."""

    def __call__(self, *, rl_module, batch, episodes, **kwargs):
        return batch


class Doubled(ConnectorV2):
    """Doubles rewards, and adds a column that has them, too."""

    def __call__(self, *, rl_module, batch, episodes, **kwargs):
        for episode in self.single_agent_episode_iterator(episodes, agents_that_stepped_only=False):
            rewards = 2.0 * np.asarray(episode.get_rewards())
            episode.set_rewards(new_data=rewards)
            self.add_n_batch_items(batch, "seen", rewards, len(episode), episode)
        return batch


class Moved(ConnectorV2):
    """Changes observations in the batch only."""

    def __call__(self, *, rl_module, batch, episodes, **kwargs):
        for episode in self.single_agent_episode_iterator(episodes, agents_that_stepped_only=False):
            rows = np.asarray(episode.get_observations(slice(0, len(episode)))) + 1.0
            self.add_n_batch_items(batch, Columns.OBS, rows, len(episode), episode)
        return batch


def built(kind, lstm, connector=None):
    config = kind().environment("CartPole-v1").learners(num_learners=0)
    config.env_runners(num_env_runners=0, num_envs_per_env_runner=3, rollout_fragment_length=20)
    config.training(train_batch_size_per_learner=60).debugging(seed=1)
    config.rl_module(model_config={"fcnet_hiddens": [8], "use_lstm": lstm, "lstm_cell_size": 4, "max_seq_len": 7})
    if connector is not None:
        config.learners(learner_connector=lambda *_: connector())
    return config.build_algo()


def prepared(algo, samples):
    return algo.learner_group._learner.prepare(copy.deepcopy(samples))["default_policy"]


def rows(batch, name):
    """The steps of a column, in an order that hangs on nothing but their observations."""
    mask = batch[Columns.LOSS_MASK].numpy().astype(bool)
    order = np.lexsort(batch[Columns.OBS].numpy()[:-1][mask].T)
    return batch[name].numpy()[: len(mask)][mask][order]


@pytest.mark.parametrize("lstm", [False, True])
@pytest.mark.parametrize("kind", [IMPALAConfig, APPOConfig])
def test_a_connector_sees_episodes_and_its_columns_are_time_major(kind, lstm):
    plain, same, doubled = (built(kind, lstm, one) for one in (None, Nothing, Doubled))
    samples = plain.env_runner_group.collect(steps=60) + plain.env_runner_group.collect(steps=60)
    first, second, third = (prepared(algo, samples) for algo in (plain, same, doubled))
    for name in (Columns.OBS, Columns.ACTIONS, Columns.REWARDS, Columns.ACTION_LOGP, Columns.TERMINATEDS):
        np.testing.assert_array_equal(rows(first, name), rows(second, name))
    np.testing.assert_array_equal(rows(third, Columns.REWARDS), 2.0 * rows(first, Columns.REWARDS))
    np.testing.assert_array_equal(rows(third, "seen"), rows(third, Columns.REWARDS))
    weights = []
    for algo in (plain, same, doubled):
        algo.learner_group._learner.update(copy.deepcopy(samples))
        found = algo.get_weights()["default_policy"]
        weights.append(np.concatenate([found[name].reshape(-1) for name in sorted(found)]))
        algo.stop()
    np.testing.assert_allclose(weights[0], weights[1], atol=1e-5)


def test_what_a_connector_cannot_change_is_told():
    algo = built(IMPALAConfig, False, Moved)
    with pytest.raises(ValueError, match="change them in the episodes"):
        algo.train()
    algo.stop()
    algo = built(IMPALAConfig, False, Nothing)
    algo.learner_group._learner._learner_connector = lambda **kwargs: {"default_policy": {"short": np.zeros(2)}}
    with pytest.raises(ValueError, match="made 2 rows of column 'short'"):
        algo.train()
    algo.stop()

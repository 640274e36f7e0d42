"""Replay buffers against plain lists of episodes: windows, sequences, eviction, priorities, state."""

from __future__ import annotations

import numpy as np
import pytest

from hpc.rllib.core.columns import Columns
from hpc.rllib.env.fragment import Fragment, Sample
from hpc.rllib.flow.shards import ReplayShard
from hpc.rllib.utils.replay_buffers import (
    EpisodeReplayBuffer,
    MultiAgentPrioritizedEpisodeReplayBuffer,
    PrioritizedEpisodeReplayBuffer,
)


class Recorder:
    """Makes fragments of episodes of random length; an observation is (column, episode, step)."""

    def __init__(self, width=3, seed=0, end=0.2):
        self.rng = np.random.default_rng(seed)
        self.width, self.end = width, end
        self.episode = np.zeros(width, int)
        self.step = np.zeros(width, int)
        self.resetting = np.zeros(width, bool)
        self.begun = np.zeros(width, bool)
        #: What happened, by (column, episode): rewards and how it ended.
        self.truth = {}

    def obs(self):
        return np.stack([np.arange(self.width), self.episode, self.step], 1).astype(np.float32)

    def fragment(self, rows):
        n = self.width
        columns = {
            Columns.OBS: np.zeros((rows + 1, n, 3), np.float32),
            Columns.ACTIONS: np.zeros((rows, n), np.int64),
            Columns.REWARDS: np.zeros((rows, n), np.float32),
            Columns.TERMINATEDS: np.zeros((rows, n), bool),
            Columns.TRUNCATEDS: np.zeros((rows, n), bool),
            Columns.LOSS_MASK: np.zeros((rows, n), bool),
            Columns.STATE_IN: {"h": np.zeros((rows, n, 2), np.float32)},
            "first": np.zeros((rows, n), bool),
        }
        columns[Columns.OBS][0] = self.obs()
        start, t_start = self.episode.copy(), self.step.copy()
        for t in range(rows):
            mask = ~self.resetting
            columns[Columns.LOSS_MASK][t] = mask
            columns["first"][t] = mask & (self.step == 0)
            ended, cut = mask & (self.rng.random(n) < self.end), mask & (self.rng.random(n) < self.end / 2)
            columns[Columns.TERMINATEDS][t], columns[Columns.TRUNCATEDS][t] = ended, cut & ~ended
            reward = self.rng.normal(size=n).astype(np.float32) * mask
            columns[Columns.REWARDS][t] = reward
            columns[Columns.ACTIONS][t] = self.step
            columns[Columns.STATE_IN]["h"][t] = self.obs()[:, 1:]
            for c in np.flatnonzero(mask):
                rewards = self.truth.setdefault((c, self.episode[c]), ([], []))
                rewards[0].append(float(reward[c]))
                if ended[c] or cut[c]:
                    rewards[1].append("ended" if ended[c] else "cut")
            self.step[mask] += 1
            self.step[~mask] = 0
            self.episode[~mask] += 1
            self.resetting = ended | cut
            columns[Columns.OBS][t + 1] = self.obs()
        return Fragment(columns, rows, n, t_start, start, "r0")


def check(batch, truth, gamma, most):
    """Each row of a batch is what the truth says."""
    for i, (column, episode, step) in enumerate(batch[Columns.OBS].astype(int)):
        rewards, ends = truth[column, episode]
        taken = int(batch["n_step"][i])
        assert 1 <= taken <= most
        assert batch[Columns.REWARDS][i] == pytest.approx(
            sum(gamma**k * r for k, r in enumerate(rewards[step : step + taken])), abs=1e-4
        )
        assert batch[Columns.ACTIONS][i] == step
        assert batch[Columns.NEXT_OBS][i].astype(int).tolist() == [column, episode, step + taken]
        at_end = bool(ends) and step + taken == len(rewards)
        assert batch[Columns.TERMINATEDS][i] == (at_end and ends[0] == "ended")
        assert batch[Columns.TRUNCATEDS][i] == (at_end and ends[0] == "cut")
        if taken < most and not at_end:
            assert step + taken == len(rewards), "only an end, or what is not known yet, makes a window shorter"


@pytest.mark.parametrize("capacity", [7, 40, 1000])
@pytest.mark.parametrize("rows", [1, 2, 9])
def test_windows_are_those_of_the_episodes(capacity, rows):
    recorder = Recorder(seed=capacity + rows)
    buffer = EpisodeReplayBuffer(capacity, seed=0)
    for _ in range(40):
        buffer.add(recorder.fragment(rows))
        assert len(buffer) <= capacity
        if len(buffer):
            check(buffer.sample_batch(20, n_step=3, gamma=0.9), recorder.truth, 0.9, 3)
    assert buffer.get_added_timesteps() == sum(len(r) for r, _ in recorder.truth.values())


def test_every_step_that_is_kept_can_be_drawn_and_no_other():
    recorder = Recorder(width=1, end=0.1)
    buffer = EpisodeReplayBuffer(30, seed=1)
    for _ in range(20):
        buffer.add(recorder.fragment(5))
    steps = [(e, s) for (_, e), (rewards, _) in recorder.truth.items() for s in range(len(rewards))]
    drawn = {tuple(row) for row in buffer.sample_batch(2000)[Columns.OBS][:, 1:].astype(int).tolist()}
    assert drawn == set(steps[-30:])


def test_a_pair_draws_each_length_of_windows():
    recorder = Recorder(end=0.0)
    buffer = EpisodeReplayBuffer(1000, seed=1)
    buffer.add(recorder.fragment(50))
    taken = buffer.sample_batch(500, n_step=(2, 5))["n_step"]
    assert set(taken.astype(int)) >= {2, 3, 4, 5}
    assert (taken <= 5).all()


def test_an_episode_that_a_lost_runner_left_does_not_go_on_elsewhere():
    recorder = Recorder(width=1, end=0.0)
    buffer = EpisodeReplayBuffer(100, seed=1)
    buffer.add(recorder.fragment(3))
    lost = recorder.fragment(2)
    del lost
    buffer.add(recorder.fragment(3))
    batch = buffer.sample_batch(200, n_step=6, gamma=1.0)
    steps, taken = batch[Columns.OBS][:, 2].astype(int), batch["n_step"].astype(int)
    assert (steps[steps < 3] + taken[steps < 3] <= 3).all()
    assert (batch[Columns.NEXT_OBS][:, 2] == steps + taken).all()


def test_episodes_of_lost_runners_are_forgotten_with_their_steps():
    buffer = EpisodeReplayBuffer(10)
    for life in range(50):
        fragment = Recorder(width=2, end=0.0).fragment(2)
        fragment.name = f"life {life}"
        buffer.add(fragment)
    assert buffer.get_num_episodes() == len(buffer._storage._tails) <= 6
    assert buffer.get_num_episodes_evicted() == 100 - buffer.get_num_episodes()


def test_sequences_have_the_states_before_and_after_their_first_step():
    recorder = Recorder(end=0.1)
    buffer = EpisodeReplayBuffer(500, seed=3)
    for _ in range(30):
        buffer.add(recorder.fragment(4))
    batch = buffer.sample_batch(64, batch_length_T=6, min_batch_length_T=3)
    mask = batch[Columns.LOSS_MASK]
    assert mask.sum() >= 64
    assert (mask.sum(1) >= 3).all()
    for i in range(len(mask)):
        length = int(mask[i].sum())
        assert mask[i, :length].all()
        column, episode, step = batch[Columns.OBS][i, 0].astype(int)
        assert batch[Columns.STATE_IN]["h"][i].tolist() == [episode, step]
        assert batch[Columns.NEXT_STATE_IN]["h"][i].tolist() == [episode, step + 1]
        rewards = recorder.truth[column, episode][0][step : step + length]
        np.testing.assert_allclose(batch[Columns.REWARDS][i, :length], rewards, rtol=1e-6)
        assert batch[Columns.NEXT_OBS][i, :length, 2].astype(int).tolist() == list(range(step + 1, step + 1 + length))
        assert not batch[Columns.OBS][i, length:].any()


def test_sequences_that_no_episode_has_are_an_error():
    buffer = EpisodeReplayBuffer(100)
    with pytest.raises(ValueError, match="empty"):
        buffer.sample_batch(4)
    buffer.add(Recorder(end=0.0).fragment(3))
    with pytest.raises(ValueError, match="9 steps in a row"):
        buffer.sample_batch(4, batch_length_T=12, min_batch_length_T=9)
    with pytest.raises(ValueError, match="n_step=1"):
        buffer.sample_batch(4, batch_length_T=2, n_step=3)


def test_priorities_steer_draws_and_weights_undo_it():
    buffer = PrioritizedEpisodeReplayBuffer(64, alpha=1.0, seed=0)
    buffer.add(Recorder(width=1, end=0.0).fragment(4))
    batch = buffer.sample_batch(4, beta=1.0)
    assert sorted(batch[Columns.ACTIONS].tolist()) == [0, 1, 2, 3], "equal priorities: one of each stratum"
    assert batch["weights"].tolist() == [1.0] * 4
    buffer.update_priorities(np.where(batch[Columns.ACTIONS] == 2, 5.0, 1.0))
    batch = buffer.sample_batch(8000, beta=1.0)
    share = np.bincount(batch[Columns.ACTIONS]) / 8000
    np.testing.assert_allclose(share, [1 / 8, 1 / 8, 5 / 8, 1 / 8], atol=0.01)
    np.testing.assert_allclose(batch["weights"][batch[Columns.ACTIONS] == 2], 0.2, rtol=1e-5)
    np.testing.assert_allclose(batch["weights"][batch[Columns.ACTIONS] != 2], 1.0, rtol=1e-5)
    with pytest.raises(ValueError, match="drawn last"):
        buffer.update_priorities(np.ones(3))


def test_sequences_have_the_weights_of_their_first_steps():
    buffer = PrioritizedEpisodeReplayBuffer(64, alpha=1.0, seed=0)
    buffer.add(Recorder(width=1, end=0.0).fragment(4))
    buffer.update_priorities(np.where(buffer.sample_batch(4)[Columns.ACTIONS] == 1, 5.0, 1.0))
    batch = buffer.sample_batch(60, batch_length_T=3, beta=1.0)
    expected = np.where(batch[Columns.ACTIONS][:, :1] == 1, 0.2, 1.0).repeat(3, axis=1)
    assert set(expected[:, 0]) == {0.2, 1.0}
    np.testing.assert_allclose(batch["weights"], expected, rtol=1e-5)
    assert (buffer.sample_batch(6, batch_length_T=3)["weights"] == 1.0).all()


def test_a_priority_that_is_not_finite_is_told():
    buffer = PrioritizedEpisodeReplayBuffer(64, alpha=0.6)
    buffer.add(Recorder().fragment(4))
    buffer.sample_batch(2)
    with pytest.raises(ValueError, match="not finite"):
        buffer.update_priorities(np.array([1.0, np.nan]))


def test_new_steps_have_the_highest_priority_and_evicted_ones_none():
    buffer = PrioritizedEpisodeReplayBuffer(8, alpha=1.0, seed=0)
    recorder = Recorder(width=1, end=0.0)
    buffer.add(recorder.fragment(8))
    buffer.sample_batch(8)
    buffer.update_priorities(np.full(8, 10.0))
    buffer.add(recorder.fragment(2))
    assert buffer._tree.total == pytest.approx(80.0)
    drawn = buffer.sample_batch(800)[Columns.ACTIONS]
    assert set(drawn.tolist()) == set(range(2, 10))


@pytest.mark.parametrize("kind", [EpisodeReplayBuffer, PrioritizedEpisodeReplayBuffer])
def test_state_goes_around(kind):
    recorder = Recorder()
    buffer, other = kind(40, seed=5), kind(40, seed=6)
    for _ in range(10):
        buffer.add(recorder.fragment(4))
    other.set_state(buffer.get_state())
    for _ in range(5):
        more = recorder.fragment(3)
        buffer.add(more)
        other.add(more)
        a, b = buffer.sample_batch(16, n_step=3, beta=0.4), other.sample_batch(16, n_step=3, beta=0.4)
        for name in a:
            if name != Columns.STATE_IN:
                np.testing.assert_array_equal(a[name], b[name])
    check(a, recorder.truth, 0.99, 3)
    with pytest.raises(ValueError, match="capacity"):
        kind(41).set_state(buffer.get_state())


def test_each_module_has_its_buffer():
    a, b = Recorder(seed=1), Recorder(seed=2, width=2)
    buffer = MultiAgentPrioritizedEpisodeReplayBuffer(100, alpha=0.6, seed=0)
    for _ in range(5):
        buffer.add(Sample({"a": a.fragment(4), "b": b.fragment(4)}, env_steps=4))
    batches = buffer.sample_batches(16, n_step=2, gamma=0.9, beta=0.4)
    check(batches["a"], a.truth, 0.9, 2)
    check(batches["b"], b.truth, 0.9, 2)
    buffer.update_priorities(np.ones(16), module_id="a")
    with pytest.raises(ValueError, match="module_id"):
        buffer.update_priorities(np.ones(16))
    assert set(buffer.sample_batches(4, modules={"b"})) == {"b"}
    assert buffer.get_num_timesteps("a") + buffer.get_num_timesteps("b") == len(buffer)


def test_counts():
    recorder = Recorder(width=1, end=0.3, seed=4)
    buffer = EpisodeReplayBuffer(20, seed=0)
    for _ in range(10):
        buffer.add(recorder.fragment(6))
    buffer.sample_batch(8)
    first, second = buffer.get_metrics(), buffer.get_metrics()
    steps = sum(len(rewards) for rewards, _ in recorder.truth.values())
    assert first["num_env_steps_added"] == first["num_env_steps_added_lifetime"] == steps
    assert first["num_env_steps_stored"] == 20
    assert first["num_env_steps_evicted"] == steps - 20
    assert first["num_episodes_added"] == len(recorder.truth)
    assert first["num_env_steps_sampled"] == 8
    assert first["actual_n_step"] == 1.0
    assert second["num_env_steps_added"] == 0
    assert second["num_env_steps_added_lifetime"] == steps


def test_errors_of_steps_that_were_overwritten_meanwhile_change_no_priority():
    recorder = Recorder(width=2)
    shard = ReplayShard(lambda: PrioritizedEpisodeReplayBuffer(20, alpha=1.0, seed=0), {"n_step": 1}, 1, 0.99)
    buffer = shard._buffer
    buffer.add_fragment(recorder.fragment(12))
    drawn, added = buffer.last_sampled, buffer.steps_added
    shard._open[1] = {"default_policy": (np.arange(20), added)}
    overwritten = buffer.add_fragment(recorder.fragment(3))
    before = buffer._tree.get(np.arange(20))
    shard.set_priorities(1, {"default_policy": np.full(20, 7.0)})
    kept = np.setdiff1d(np.arange(20), overwritten)
    assert len(drawn) == 0 and 0 < len(overwritten) < 20
    np.testing.assert_array_equal(buffer.are_kept(np.arange(20), added), np.isin(np.arange(20), kept))
    np.testing.assert_array_equal(buffer._tree.get(overwritten), before[overwritten])
    np.testing.assert_array_equal(buffer._tree.get(kept), 7.0)
    assert not buffer.are_kept(np.arange(20), added - 40).any()

"""Fragments: arrays over time and columns, the pieces of episodes in them, and their way to batches."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from hpc.rllib.core.columns import Columns
from hpc.rllib.env.fragment import ACTION_MASK, FIRST, Fragment, Sample
from hpc.rllib.env.single_agent_episode import SingleAgentEpisode

ROWS, WIDTH = 6, 2


def fragment() -> Fragment:
    """Column 0: an episode of 3 steps, its reset row, one of 2. Column 1: the middle of one episode."""
    steps = np.arange(ROWS * WIDTH).reshape(ROWS, WIDTH)
    mask = np.ones((ROWS, WIDTH), bool)
    mask[3, 0] = False
    first = np.zeros((ROWS, WIDTH), bool)
    first[[0, 4], 0] = True
    ends = np.zeros((ROWS, WIDTH), bool)
    ends[2, 0] = True
    columns = {
        Columns.OBS: {"x": np.arange((ROWS + 1) * WIDTH, dtype=np.float32).reshape(ROWS + 1, WIDTH, 1)},
        Columns.ACTIONS: steps,
        Columns.REWARDS: steps.astype(np.float32),
        Columns.TERMINATEDS: ends,
        Columns.TRUNCATEDS: np.zeros_like(ends),
        Columns.LOSS_MASK: mask,
        FIRST: first,
        ACTION_MASK: np.ones((ROWS + 1, WIDTH, 3), bool),
    }
    return Fragment(columns, ROWS, WIDTH, np.array([0, 7]), np.array([4, 2]), "runner")


def test_flat_leaves_masked_rows_out_and_pairs_each_step_with_what_it_led_to():
    flat = fragment().flat(next_obs=True)
    assert flat[Columns.ACTIONS].tolist() == [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11]
    assert np.array_equal(flat[Columns.NEXT_OBS]["x"] - flat[Columns.OBS]["x"], np.full((11, 1), WIDTH))
    assert flat[f"next_{ACTION_MASK}"].shape == (11, 3)
    assert fragment().valid_steps == len(fragment()) == 11


def test_segments_are_the_pieces_of_episodes():
    assert fragment().segments() == [(0, 0, 3), (0, 4, 6), (1, 0, 6)]


def test_episodes_are_views_with_their_starts_and_names():
    whole = fragment()
    done, begun, middle = whole.episodes()
    assert (done.is_terminated, begun.is_done, middle.is_done) == (True, False, False)
    assert [len(one) for one in (done, begun, middle)] == [3, 2, 6]
    assert [one.t_started for one in (done, begun, middle)] == [0, 0, 7]
    assert [one.id_ for one in (done, begun, middle)] == ["runner-0-4", "runner-0-5", "runner-1-2"]
    assert np.shares_memory(done.get_rewards(), whole[Columns.REWARDS])
    assert done.get_observations()["x"][:, 0].tolist() == [0, 2, 4, 6]


def test_episodes_make_a_fragment_with_the_same_steps():
    again = Fragment.of_episodes(fragment().episodes())
    assert (again.rows, again.width, again.valid_steps) == (6, 3, 11)
    assert sorted(again.flat()[Columns.ACTIONS]) == sorted(fragment().flat()[Columns.ACTIONS])
    assert again.first[0].tolist() == [True, True, False]
    assert again[Columns.OBS]["x"][3, 0] == 6  # what the last step of the first episode led to


def test_an_episode_without_steps_is_left_out():
    empty = SingleAgentEpisode(observations=[0.0])
    with pytest.raises(ValueError, match="no episode has a step"):
        Fragment.of_episodes([empty])


def test_concat_pads_the_shorter_one_without_loss():
    short = Fragment.of_episodes(fragment().episodes()[:1])
    joined = Fragment.concat([short, Fragment.of_episodes(fragment().episodes()[2:])])
    assert (joined.rows, joined.width, joined.valid_steps) == (6, 2, 9)
    assert not joined.loss_mask[3:, 0].any()
    assert joined.select([1]).flat()[Columns.ACTIONS].tolist() == [1, 3, 5, 7, 9, 11]


def test_a_sample_is_pickled_with_its_arrays_out_of_band():
    sample = Sample({"default_policy": fragment()}, env_steps=11)
    buffers: list[pickle.PickleBuffer] = []
    body = pickle.dumps(sample, protocol=5, buffer_callback=buffers.append)
    again = pickle.loads(body, buffers=buffers)
    assert len(buffers) >= len(fragment().columns)
    assert len(body) < 2500
    assert np.array_equal(again.modules["default_policy"][Columns.REWARDS], fragment()[Columns.REWARDS])
    assert [episode.module_id for episode in again.single_agent_episodes()] == ["default_policy"] * 3

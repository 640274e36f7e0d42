"""Returns, V-trace and sum trees against slow loops and cases that were computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hpc.rllib.math import SumTree, discounted_returns, explained_variance, gae, n_step_returns, standardize
from hpc.rllib.math.vtrace import vtrace


def slow_gae(rewards, values, terminateds, truncateds, mask, gamma, lambda_):
    """The sum of discounted errors that the definition has, column by column."""
    rows, width = rewards.shape
    out = np.zeros((rows, width))
    for n in range(width):
        for t in range(rows):
            weight = 1.0
            for k in range(t, rows):
                if not mask[k, n]:
                    break
                following = 0.0 if terminateds[k, n] else values[k + 1, n]
                out[t, n] += weight * (rewards[k, n] + gamma * following - values[k, n])
                weight *= gamma * lambda_
                if terminateds[k, n] or truncateds[k, n]:
                    break
    return out


def some_rows(seed=0, rows=23, width=5):
    rng = np.random.default_rng(seed)
    rewards = rng.normal(size=(rows, width)).astype(np.float32)
    values = rng.normal(size=(rows + 1, width)).astype(np.float32)
    kind = rng.integers(0, 8, size=(rows, width))
    terminateds, truncateds = kind == 0, kind == 1
    mask = np.ones((rows, width), bool)
    # The row after an end is the reset of the environment.
    mask[1:] = ~(terminateds | truncateds)[:-1]
    terminateds, truncateds = terminateds & mask, truncateds & mask
    return rewards, values, terminateds, truncateds, mask


@pytest.mark.parametrize(("gamma", "lambda_"), [(0.99, 0.95), (1.0, 1.0), (0.9, 0.0)])
def test_gae_is_the_sum_of_the_definition(gamma, lambda_):
    rewards, values, terminateds, truncateds, mask = some_rows()
    got = gae(rewards, values, terminateds, truncateds, gamma, lambda_, mask)
    want = slow_gae(rewards, values, terminateds, truncateds, mask, gamma, lambda_)
    np.testing.assert_allclose(got.advantages, want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got.value_targets, (want + values[:-1]) * mask, rtol=1e-4, atol=1e-5)


def test_gae_bootstraps_at_a_truncation_and_not_at_an_end():
    rewards = np.ones((1, 2), np.float32)
    values = np.array([[0.0, 0.0], [10.0, 10.0]], np.float32)
    ended = np.array([[True, False]])
    got = gae(rewards, values, ended, ~ended, 0.5, 1.0)
    np.testing.assert_allclose(got.advantages, [[1.0, 6.0]])


def test_gae_tells_that_the_bootstrap_row_is_missing():
    rewards, values, terminateds, truncateds, _ = some_rows()
    with pytest.raises(ValueError, match="one row more"):
        gae(rewards, values[:-1], terminateds, truncateds, 0.9, 0.9)


def test_discounted_returns_stop_at_ends():
    rewards = np.array([[1.0], [2.0], [4.0]], np.float32)
    ends = np.array([[False], [True], [False]])
    got = discounted_returns(rewards, ends, 0.5, np.array([8.0]))
    np.testing.assert_allclose(got[:, 0], [2.0, 2.0, 8.0])


def test_n_step_windows_end_with_their_episode():
    rewards = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    ends = np.array([False, False, True, False, False])
    starts = np.array([0, 0, 1, 2, 3, 4])
    steps = np.array([1, 3, 3, 2, 2, 5])
    sums, taken = n_step_returns(rewards, ends, starts, steps, 0.5)
    np.testing.assert_allclose(sums, [1.0, 3.0, 4.0, 4.0, 16.0, 16.0])
    assert taken.tolist() == [1, 3, 2, 1, 2, 1]


def test_standardized_advantages_have_mean_0_and_deviation_1_over_valid_rows():
    rng = np.random.default_rng(1)
    mask = rng.random((50, 4)) < 0.7
    got = standardize(rng.normal(3, 5, (50, 4)).astype(np.float32), mask)
    assert abs(got[mask].mean()) < 1e-5
    assert abs(got[mask].std() - 1) < 1e-4
    assert (got[~mask] == 0).all()


def test_explained_variance():
    targets = np.arange(10.0)
    assert explained_variance(targets, targets) == 1.0
    assert explained_variance(targets, np.zeros(10)) == 0.0
    assert explained_variance(np.ones(10), np.zeros(10)) == -1.0


def slow_vtrace(target, behaviour, rewards, values, next_values, discounts, cuts, mask, rho_bar, pg_bar):
    """The recursion of the paper, column by column; discounts are 0 at ends."""
    rows, width = rewards.shape
    vs = np.zeros((rows, width))
    pg = np.zeros((rows, width))
    for n in range(width):
        after = 0.0  # vs - value of the next row
        following = 0.0
        for t in reversed(range(rows)):
            if not mask[t, n]:
                after = following = 0.0
                continue
            flows = not cuts[t, n]
            ratio = np.exp(target[t, n] - behaviour[t, n])
            delta = min(rho_bar, ratio) * (rewards[t, n] + discounts[t, n] * next_values[t, n] - values[t, n])
            target_after = next_values[t, n] + (following if flows else 0.0)
            pg[t, n] = min(pg_bar, ratio) * (rewards[t, n] + discounts[t, n] * target_after - values[t, n])
            after = delta + discounts[t, n] * min(1.0, ratio) * (after if flows else 0.0)
            vs[t, n] = values[t, n] + after
            following = after
    return vs, pg


def test_vtrace_is_the_recursion_of_the_paper():
    rewards, values, terminateds, truncateds, mask = some_rows(3)
    rng = np.random.default_rng(4)
    target, behaviour = rng.normal(-1, 0.5, (2, *rewards.shape)).astype(np.float32)
    discounts = (0.9 * (1 - terminateds)).astype(np.float32)
    args = (target, behaviour, rewards, values[:-1], values[1:], discounts)
    names = ("target_logp", "behaviour_logp", "rewards", "values", "next_values", "discounts")
    got = vtrace(
        **{name: torch.from_numpy(arg.copy()) for name, arg in zip(names, args, strict=True)},
        cuts=torch.from_numpy(truncateds),
        mask=torch.from_numpy(mask),
        clip_rho=1.0,
        clip_pg_rho=1.2,
    )
    vs, pg = slow_vtrace(*args, truncateds, mask, 1.0, 1.2)
    np.testing.assert_allclose(got.vs.numpy(), vs, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got.pg_advantages.numpy(), pg, rtol=1e-4, atol=1e-5)


def test_vtrace_of_the_same_policy_is_gae_with_lambda_1():
    rewards, values, terminateds, truncateds, mask = some_rows(5)
    logp = torch.zeros(rewards.shape)
    got = vtrace(
        target_logp=logp,
        behaviour_logp=logp,
        rewards=torch.from_numpy(rewards),
        values=torch.from_numpy(values[:-1]),
        next_values=torch.from_numpy(values[1:]),
        discounts=torch.from_numpy((0.9 * (1 - terminateds)).astype(np.float32)),
        cuts=torch.from_numpy(truncateds),
        mask=torch.from_numpy(mask),
    )
    want = gae(rewards, values, terminateds, truncateds, 0.9, 1.0, mask)
    np.testing.assert_allclose(got.pg_advantages.numpy(), want.advantages, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got.vs.numpy(), want.value_targets, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("capacity", [1, 2, 5, 64, 100])
def test_sum_tree_finds_what_a_running_sum_finds(capacity):
    rng = np.random.default_rng(capacity)
    tree = SumTree(capacity)
    priorities = np.zeros(capacity)
    for _ in range(20):
        places = rng.integers(0, capacity, size=rng.integers(1, 2 * capacity + 1))
        new = rng.random(len(places)) * (rng.random(len(places)) < 0.8)
        for place, priority in zip(places, new, strict=True):
            priorities[place] = priority
        tree.set(places, new)
        assert tree.total == pytest.approx(priorities.sum())
        some = priorities[priorities > 0]
        assert tree.least == (some.min() if len(some) else np.inf)
        if len(some):
            masses = rng.random(50) * tree.total * (1 - 1e-9)
            want = np.searchsorted(np.cumsum(priorities), masses, side="right")
            assert tree.find(masses).tolist() == want.tolist()


def test_draws_follow_priorities():
    tree = SumTree(4)
    tree.set(np.arange(4), np.array([1.0, 0.0, 2.0, 5.0]))
    drawn = np.bincount(tree.draw(8000, np.random.default_rng(0)), minlength=4)
    assert np.abs(drawn - [1000, 0, 2000, 5000]).max() <= 1


def test_sum_tree_refuses_what_is_no_priority():
    tree = SumTree(2)
    with pytest.raises(ValueError, match="finite"):
        tree.set(np.array([0]), np.array([np.nan]))
    with pytest.raises(ValueError, match="no place"):
        SumTree(2).draw(1, np.random.default_rng(0))
    with pytest.raises(ValueError, match="capacity"):
        SumTree(0)


def test_sum_tree_state_goes_around():
    tree, other = SumTree(5), SumTree(5)
    tree.set(np.array([1, 4]), np.array([2.0, 3.0]))
    other.set_state(tree.get_state())
    assert other.total == tree.total
    assert other.get(np.arange(5)).tolist() == [0, 2, 0, 0, 3]

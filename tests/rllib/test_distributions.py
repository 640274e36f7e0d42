"""Distributions of actions: torch against torch.distributions, numpy against torch, and draws against probabilities."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch

from hpc.rllib.core.distribution.numpy_distribution import numpy_twin
from hpc.rllib.core.distribution.torch.torch_distribution import (
    TorchCategorical,
    TorchDeterministic,
    TorchDiagGaussian,
    TorchMultiCategorical,
    TorchSquashedGaussian,
)
from hpc.rllib.core.masks import MASKED_LOGIT
from hpc.rllib.core.models.catalog import dist_cls_of
from hpc.rllib.utils.trees import map_tree

BOX = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
NESTED = gym.spaces.Dict({"a": gym.spaces.Discrete(3), "b": gym.spaces.Tuple((BOX, gym.spaces.MultiDiscrete([2, 4])))})
SPACES = [gym.spaces.Discrete(4), gym.spaces.MultiDiscrete([2, 3]), BOX, NESTED]


def inputs(dist_cls: type, space: gym.Space, rows: int = 6) -> torch.Tensor:
    """Inputs of a distribution for some rows."""
    width = dist_cls.required_input_dim(space)
    return torch.from_numpy(np.random.default_rng(1).standard_normal((rows, width)).astype(np.float32))


@pytest.mark.parametrize("space", SPACES, ids=lambda space: type(space).__name__)
def test_numpy_draws_have_the_log_probability_that_torch_says(space: gym.Space) -> None:
    dist_cls = dist_cls_of(space)
    logits = inputs(dist_cls, space)
    actions, logp = numpy_twin(dist_cls).draw(logits.numpy(), np.random.default_rng(3))
    there = dist_cls.from_logits(logits).logp(map_tree(torch.from_numpy, actions))
    np.testing.assert_allclose(logp, there.numpy(), atol=1e-5)
    np.testing.assert_allclose(numpy_twin(dist_cls).logp(logits.numpy(), actions), there.numpy(), atol=1e-5)


@pytest.mark.parametrize("space", SPACES, ids=lambda space: type(space).__name__)
def test_the_most_likely_action_is_the_same_in_numpy_and_torch(space: gym.Space) -> None:
    dist_cls = dist_cls_of(space)
    logits = inputs(dist_cls, space)
    best = numpy_twin(dist_cls).best(logits.numpy())
    there = dist_cls.from_logits(logits).to_deterministic().sample()
    map_tree(lambda mine, theirs: np.testing.assert_allclose(mine, theirs.numpy(), atol=1e-6), best, there)


LOGITS = torch.tensor([[0.3, -1.0, 2.0]])
LOC, SCALE = torch.tensor([[0.3]]), torch.tensor([[0.7]])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (TorchCategorical(logits=LOGITS), torch.distributions.Categorical(logits=LOGITS)),
        (TorchDiagGaussian(LOC, SCALE), torch.distributions.Normal(LOC, SCALE)),
    ],
    ids=["categorical", "gaussian"],
)
def test_entropy_and_log_probability_are_those_of_torch(ours, theirs) -> None:
    value = theirs.sample()
    torch.testing.assert_close(ours.logp(value).reshape(-1), theirs.log_prob(value).reshape(-1))
    torch.testing.assert_close(ours.entropy().reshape(-1), theirs.entropy().reshape(-1))


def test_kl_is_that_of_torch() -> None:
    a, b = torch.tensor([[0.3, -1.0, 2.0]]), torch.tensor([[1.0, 0.0, 0.5]])
    there = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=a), torch.distributions.Categorical(logits=b)
    )
    torch.testing.assert_close(TorchCategorical(logits=a).kl(TorchCategorical(logits=b)), there)
    mine = TorchDiagGaussian(a, b.exp()).kl(TorchDiagGaussian(b, a.exp()))
    normal = torch.distributions.Normal
    there = torch.distributions.kl_divergence(normal(a, b.exp()), normal(b, a.exp()))
    torch.testing.assert_close(mine, there.sum(-1))


def test_draws_follow_the_probabilities_and_never_a_masked_action() -> None:
    logits = np.array([[0.0, 1.0, MASKED_LOGIT, 2.0]], np.float32).repeat(40_000, axis=0)
    actions, logp = numpy_twin(TorchCategorical).draw(logits, np.random.default_rng(0))
    shares = np.bincount(actions, minlength=4) / len(actions)
    expected = np.exp([0.0, 1.0, -np.inf, 2.0]) / np.exp([0.0, 1.0, 2.0]).sum()
    np.testing.assert_allclose(shares, expected, atol=0.01)
    assert shares[2] == 0.0
    np.testing.assert_allclose(np.exp(logp), expected[actions], atol=1e-5)


def test_a_squashed_gaussian_integrates_to_one() -> None:
    dist = TorchSquashedGaussian.from_logits(torch.tensor([[0.4, -0.3]]))
    at = torch.linspace(-0.9999, 0.9999, 20_001).unsqueeze(-1)
    total = dist.logp(at).exp().mean() * 2 * 0.9999
    assert total.item() == pytest.approx(1.0, abs=2e-3)


def test_log_density_of_a_squashed_draw_is_finite_where_tanh_saturates() -> None:
    dist = TorchSquashedGaussian.from_logits(torch.tensor([[30.0, 0.0]]))
    action, logp = dist.rsample_and_logp()
    assert action.item() == 1.0
    assert torch.isfinite(logp).all()
    _, logp = numpy_twin(TorchSquashedGaussian).draw(np.array([[30.0, 0.0]], np.float32), np.random.default_rng(0))
    assert np.isfinite(logp).all()


def test_deterministic_squashed_actions_are_inside_of_the_bounds() -> None:
    action = TorchSquashedGaussian.from_logits(torch.tensor([[30.0, 0.0]])).to_deterministic().sample()
    assert action.item() <= 1.0


def test_nested_actions_are_found_by_key_in_any_order() -> None:
    space = gym.spaces.Dict({"a": gym.spaces.Discrete(3), "b": gym.spaces.Discrete(3)})
    dist_cls = dist_cls_of(space)
    logits = torch.tensor([[0.0, 1.0, 2.0, 3.0, 0.0, 0.0]])
    actions = {"a": torch.tensor([2]), "b": torch.tensor([0])}
    turned = {"b": actions["b"], "a": actions["a"]}
    dist = dist_cls.from_logits(logits)
    assert dist.logp(turned) == dist.logp(actions)
    twin = numpy_twin(dist_cls)
    expected = pytest.approx(dist.logp(actions).item(), rel=1e-5)
    assert twin.logp(logits.numpy(), map_tree(lambda leaf: leaf.numpy(), turned))[0] == expected


def test_a_partial_class_refuses_arguments_that_it_has() -> None:
    space = gym.spaces.MultiDiscrete([2, 3])
    partial = dist_cls_of(space)
    assert partial.required_input_dim(space) == 5
    with pytest.raises(ValueError, match="already set"):
        partial.from_logits(torch.zeros(1, 5), input_lens=[5])
    with pytest.raises(ValueError, match="was made for"):
        partial.required_input_dim(gym.spaces.MultiDiscrete([7]))


def test_actions_beside_each_other_in_one_tensor_are_split_by_distribution() -> None:
    space = gym.spaces.Tuple((gym.spaces.Discrete(3), BOX))
    dist = dist_cls_of(space).from_logits(torch.zeros(2, 7))
    nested = (torch.tensor([1, 2]), torch.zeros(2, 2))
    flat = torch.cat([nested[0].float().unsqueeze(-1), nested[1]], dim=-1)
    torch.testing.assert_close(dist.logp(flat), dist.logp(nested))


@pytest.mark.parametrize(
    ("space", "said"),
    [
        (gym.spaces.Box(0, 9, (2,), np.int32), "integer Box"),
        (gym.spaces.Box(0, 1, (2, 2), np.float32), "2 axes"),
        (gym.spaces.MultiBinary(3), "no default distribution"),
    ],
)
def test_spaces_without_a_distribution_say_what_to_do(space: gym.Space, said: str) -> None:
    with pytest.raises((ValueError, NotImplementedError), match=said):
        dist_cls_of(space)


def test_wrong_uses_say_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="either logits or probs"):
        TorchCategorical()
    with pytest.raises(ValueError, match="sum up to 3"):
        TorchMultiCategorical.from_logits(torch.zeros(1, 5), input_lens=[1, 2])
    with pytest.raises(ValueError, match="Discrete action spaces"):
        TorchCategorical.required_input_dim(BOX)
    with pytest.raises(RuntimeError, match="no entropy"):
        TorchDeterministic(torch.zeros(1)).entropy()
    with pytest.raises(ValueError, match="closed form"):
        TorchSquashedGaussian(torch.zeros(1)).entropy()


def test_a_subclass_has_no_numpy_twin() -> None:
    class Own(TorchCategorical):
        pass

    assert numpy_twin(TorchCategorical) is not None
    assert numpy_twin(Own) is None


def test_gradients_reach_the_parameters_of_categoricals() -> None:
    logits = torch.zeros(1, 3, requires_grad=True)
    (TorchCategorical(logits=logits).rsample() * torch.tensor([[1.0, 2.0, 3.0]])).sum().backward()
    assert logits.grad is not None and logits.grad.abs().sum() > 0

"""Actors: numpy against torch, generators, masks, states, and modules of users."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from hpc.rllib.core import Columns
from hpc.rllib.core.acting import NumpyActor, TorchActor, epsilon_greedy, make_actor
from hpc.rllib.core.default_modules.bc import DefaultBCTorchRLModule
from hpc.rllib.core.default_modules.dqn import DefaultDQNTorchRLModule
from hpc.rllib.core.default_modules.ppo import DefaultPPOTorchRLModule
from hpc.rllib.core.default_modules.sac import DefaultSACTorchRLModule
from hpc.rllib.core.rl_module.torch import TorchRLModule
from hpc.rllib.utils.trees import map_tree

BOX = gym.spaces.Box(-1.0, 1.0, (4,), np.float32)
ACTIONS = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
THREE = gym.spaces.Discrete(3)
NESTED = gym.spaces.Dict({"a": THREE, "b": ACTIONS})
OBS = np.random.default_rng(0).standard_normal((7, 4)).astype(np.float32)


def made(cls: type, action_space: gym.Space = THREE, **model_config: Any) -> Any:
    """A small default module."""
    config = {"fcnet_hiddens": [8, 6], **model_config}
    return cls(observation_space=BOX, action_space=action_space, model_config=config)


def rng() -> np.random.Generator:
    """The same generator each time."""
    return np.random.default_rng(5)


CASES = {
    "ppo": (DefaultPPOTorchRLModule, THREE, {}),
    "ppo, networks apart": (DefaultPPOTorchRLModule, THREE, {"vf_share_layers": False, "head_fcnet_hiddens": [5]}),
    "ppo, continuous": (DefaultPPOTorchRLModule, ACTIONS, {"fcnet_use_layernorm": True, "log_std_clip_param": 0.01}),
    "ppo, free deviation": (DefaultPPOTorchRLModule, ACTIONS, {"free_log_std": True, "fcnet_activation": "swish"}),
    "ppo, nested": (DefaultPPOTorchRLModule, NESTED, {"fcnet_activation": "elu"}),
    "bc": (DefaultBCTorchRLModule, gym.spaces.MultiDiscrete([2, 3]), {"fcnet_activation": "Sigmoid"}),
    "sac": (DefaultSACTorchRLModule, ACTIONS, {"fcnet_activation": "relu"}),
}


@pytest.mark.parametrize("case", CASES)
def test_numpy_acts_as_torch_does(case: str) -> None:
    cls, space, config = CASES[case]
    module = made(cls, space, **config)
    fast, slow = make_actor(module), TorchActor(module)
    assert isinstance(fast, NumpyActor)
    assert fast.has_values == slow.has_values
    for explore in (True, False):
        mine, theirs = fast.act(OBS, rng=rng(), explore=explore), slow.act(OBS, rng=rng(), explore=explore)
        assert set(mine) == set(theirs)
        map_tree(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), mine, theirs)
    if fast.has_values:
        np.testing.assert_allclose(fast.values(OBS), slow.values(OBS), atol=1e-5)
        assert Columns.VF_PREDS not in fast.act(OBS, rng=rng(), values=False)


@pytest.mark.parametrize("config", [{}, {"dueling": False}, {"num_atoms": 5}, {"num_atoms": 3, "dueling": False}])
def test_greedy_actions_of_dqn_are_those_of_torch(config: dict[str, Any]) -> None:
    module = made(DefaultDQNTorchRLModule, **config)
    fast = make_actor(module)
    assert isinstance(fast, NumpyActor)
    for mask in (None, np.array([[1, 0, 1]] * 7, np.int8)):
        mine = fast.act(OBS, rng=rng(), explore=False, mask=mask)[Columns.ACTIONS]
        theirs = TorchActor(module).act(OBS, rng=rng(), explore=False, mask=mask)[Columns.ACTIONS]
        np.testing.assert_array_equal(mine, theirs)


def test_what_an_actor_returned_stays_as_it_was() -> None:
    actor = make_actor(made(DefaultPPOTorchRLModule, vf_share_layers=False))
    first = actor.act(OBS, rng=rng())
    copies = map_tree(np.array, first)
    actor.act(OBS + 1.0, rng=rng())
    actor.values(OBS - 1.0)
    map_tree(np.testing.assert_array_equal, first, copies)


def test_epsilon_hangs_on_the_steps_taken() -> None:
    module = made(DefaultDQNTorchRLModule, epsilon=[(0, 1.0), (1000, 0.0)])
    actor = make_actor(module)
    obs = np.repeat(OBS[:1], 9000, axis=0)
    greedy = actor.act(obs, rng=rng(), explore=False)[Columns.ACTIONS]
    for t, share in ((0, 1.0), (500, 0.5), (1000, 0.0)):
        actions = actor.act(obs, rng=rng(), t=t)[Columns.ACTIONS]
        # A random action is the greedy one in a third of cases.
        assert np.mean(actions != greedy) == pytest.approx(share * 2 / 3, abs=0.02)


def test_random_actions_are_uniform_over_allowed_ones() -> None:
    mask = np.array([[1, 0, 1, 1]] * 12_000)
    actions = epsilon_greedy(np.zeros(12_000, np.int64), 4, mask, 1.0, rng())
    np.testing.assert_allclose(np.bincount(actions, minlength=4) / 12_000, [1 / 3, 0, 1 / 3, 1 / 3], atol=0.02)


@pytest.mark.parametrize("cls", [DefaultPPOTorchRLModule, DefaultDQNTorchRLModule, DefaultSACTorchRLModule])
@pytest.mark.parametrize("actor_class", [NumpyActor, TorchActor])
def test_masked_actions_are_never_taken(cls: type, actor_class: type) -> None:
    module = made(cls)
    actor = make_actor(module) if actor_class is NumpyActor else TorchActor(module)
    assert isinstance(actor, actor_class)
    generator = rng()
    obs = generator.standard_normal((2000, 4)).astype(np.float32)
    mask = generator.random((2000, 3)) < 0.5
    mask[np.arange(2000), generator.integers(3, size=2000)] = True
    for explore in (True, False):
        actions = actor.act(obs, rng=generator, mask=mask, explore=explore)[Columns.ACTIONS]
        assert mask[np.arange(2000), actions].all()


def test_weights_are_taken_by_name() -> None:
    first, second = made(DefaultPPOTorchRLModule), made(DefaultPPOTorchRLModule)
    actor = make_actor(first)
    before = actor.act(OBS, rng=rng())[Columns.ACTION_DIST_INPUTS]
    actor.set_weights(second.get_state())
    after = actor.act(OBS, rng=rng())[Columns.ACTION_DIST_INPUTS]
    assert not np.allclose(before, after)
    np.testing.assert_allclose(after, make_actor(second).act(OBS, rng=rng())[Columns.ACTION_DIST_INPUTS], atol=1e-6)


def test_an_actor_for_inference_has_no_values() -> None:
    module = DefaultPPOTorchRLModule(
        observation_space=BOX, action_space=THREE, inference_only=True, model_config={"vf_share_layers": False}
    )
    actor = make_actor(module)
    assert isinstance(actor, NumpyActor) and not actor.has_values
    assert Columns.VF_PREDS not in actor.act(OBS, rng=rng())
    with pytest.raises(ValueError, match="no value function"):
        actor.values(OBS)


@pytest.mark.parametrize("shared", [True, False])
def test_states_go_from_step_to_step(shared: bool) -> None:
    module = made(DefaultPPOTorchRLModule, use_lstm=True, lstm_cell_size=5, vf_share_layers=shared)
    actor = make_actor(module)
    state = actor.initial_state(7)
    out = actor.act(OBS, rng=rng(), state=state)
    assert out[Columns.ACTIONS].shape == (7,)
    assert out[Columns.VF_PREDS].shape == (7,)
    assert out[Columns.ACTION_DIST_INPUTS].shape == (7, 3)
    map_tree(lambda before, after: np.testing.assert_equal(after.shape, before.shape), state, out[Columns.STATE_OUT])
    again = actor.act(OBS, rng=rng(), state=out[Columns.STATE_OUT])
    assert not np.allclose(again[Columns.ACTION_DIST_INPUTS], out[Columns.ACTION_DIST_INPUTS])
    np.testing.assert_allclose(actor.values(OBS, state=state), out[Columns.VF_PREDS], atol=1e-6)


class Drawing(TorchRLModule):
    """A user's module that draws its actions itself."""

    def setup(self) -> None:
        self.net = torch.nn.Linear(4, 3)

    def _forward_exploration(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        probs = self.net(batch[Columns.OBS]).softmax(-1)
        return {Columns.ACTIONS: torch.multinomial(probs, 1).squeeze(-1)}

    def _forward_inference(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {Columns.ACTIONS: self.net(batch[Columns.OBS]).argmax(-1)}


def test_a_module_that_draws_by_torch_is_seeded_by_the_generator() -> None:
    actor = make_actor(Drawing(observation_space=BOX, action_space=THREE))
    assert isinstance(actor, TorchActor)
    obs = np.repeat(OBS, 20, axis=0)
    before = torch.get_rng_state()
    first, second = (actor.act(obs, rng=rng())[Columns.ACTIONS] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert torch.equal(before, torch.get_rng_state())
    other = actor.act(obs, rng=np.random.default_rng(6))[Columns.ACTIONS]
    assert not np.array_equal(first, other)


def test_a_subclass_that_acts_in_its_own_way_is_asked() -> None:
    class Always(DefaultPPOTorchRLModule):
        def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
            out = super()._forward(batch, **kwargs)
            out[Columns.ACTION_DIST_INPUTS] = torch.tensor([[0.0, 99.0, 0.0]]).repeat(len(batch[Columns.OBS]), 1)
            return out

    actor = make_actor(made(Always))
    assert isinstance(actor, TorchActor)
    assert (actor.act(OBS, rng=rng())[Columns.ACTIONS] == 1).all()


def test_images_act_by_torch() -> None:
    space = gym.spaces.Box(0, 255, (10, 10, 3), np.uint8)
    module = DefaultPPOTorchRLModule(observation_space=space, action_space=THREE, model_config={})
    actor = make_actor(module)
    assert isinstance(actor, TorchActor)
    assert actor.act(np.zeros((2, 10, 10, 3), np.uint8), rng=rng())[Columns.ACTIONS].shape == (2,)

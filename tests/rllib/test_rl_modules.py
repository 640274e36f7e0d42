"""Default modules, their networks, and specs of modules."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

from hpc.rllib.core import Columns
from hpc.rllib.core.default_modules.appo import DefaultAPPOTorchRLModule
from hpc.rllib.core.default_modules.bc import DefaultBCTorchRLModule
from hpc.rllib.core.default_modules.cql import DefaultCQLTorchRLModule
from hpc.rllib.core.default_modules.dqn import QF_LOGITS, QF_NEXT_PREDS, QF_PREDS, DefaultDQNTorchRLModule
from hpc.rllib.core.default_modules.ppo import DefaultPPOTorchRLModule
from hpc.rllib.core.default_modules.sac import DefaultSACTorchRLModule
from hpc.rllib.core.learner.utils import make_target_network, update_target_network
from hpc.rllib.core.masks import MASKED_LOGIT, split_mask, split_mask_obs
from hpc.rllib.core.models.catalog import Catalog
from hpc.rllib.core.models.configs import CNNEncoderConfig, CNNTransposeHeadConfig, RecurrentEncoderConfig
from hpc.rllib.core.models.torch.primitives import NoisyLinear
from hpc.rllib.core.rl_module import MultiRLModule, MultiRLModuleSpec, RLModule, RLModuleSpec, validate_module_id
from hpc.rllib.core.rl_module.default_model_config import DefaultModelConfig
from hpc.rllib.core.rl_module.torch import TorchRLModule
from hpc.rllib.utils.numpy import convert_to_numpy
from hpc.rllib.utils.torch_utils import convert_to_torch_tensor
from hpc.rllib.utils.trees import map_tree

BOX = gym.spaces.Box(-1.0, 1.0, (4,), np.float32)
ACTIONS = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
THREE = gym.spaces.Discrete(3)
SMALL = {"fcnet_hiddens": [8, 6]}


def made(cls: type, action_space: gym.Space = THREE, obs: gym.Space = BOX, **model_config: Any) -> Any:
    """A small default module."""
    return cls(observation_space=obs, action_space=action_space, model_config={**SMALL, **model_config})


def obs_of(rows: int = 5, space: gym.Space = BOX) -> torch.Tensor:
    """Observations by a fixed seed."""
    return torch.from_numpy(np.random.default_rng(0).standard_normal((rows, *space.shape)).astype(np.float32))


def test_ppo_has_two_tanh_layers_of_256_and_shares_them_if_asked() -> None:
    module = DefaultPPOTorchRLModule(observation_space=BOX, action_space=THREE, model_config=DefaultModelConfig())
    names = {name: tuple(weight.shape) for name, weight in module.state_dict().items()}
    assert names["encoder.encoder.net.mlp.0.weight"] == (256, 4)
    assert names["encoder.encoder.net.mlp.2.weight"] == (256, 256)
    assert names["pi.net.mlp.0.weight"] == (3, 256)
    assert names["vf.net.mlp.0.weight"] == (1, 256)
    assert [type(layer) for layer in module.encoder.encoder.net.mlp][1] is nn.Tanh
    apart = made(DefaultPPOTorchRLModule, vf_share_layers=False)
    assert "encoder.critic_encoder.net.mlp.0.weight" in apart.state_dict()


def test_ppo_outputs_by_use_and_values_from_embeddings() -> None:
    module = made(DefaultPPOTorchRLModule)
    batch = {Columns.OBS: obs_of()}
    assert set(module.forward_inference(batch)) == {Columns.ACTION_DIST_INPUTS}
    out = module.forward_train(batch)
    assert set(out) == {Columns.ACTION_DIST_INPUTS, Columns.EMBEDDINGS}
    values = module.compute_values(batch)
    assert values.shape == (5,)
    torch.testing.assert_close(values, module.compute_values(batch, embeddings=out[Columns.EMBEDDINGS]))
    assert not module.forward_exploration(batch)[Columns.ACTION_DIST_INPUTS].requires_grad


def test_modules_for_acting_lack_what_only_learners_need() -> None:
    whole = made(DefaultPPOTorchRLModule, vf_share_layers=False)
    actor = DefaultPPOTorchRLModule(
        observation_space=BOX, action_space=THREE, inference_only=True, model_config={**SMALL, "vf_share_layers": False}
    )
    assert not any("critic" in name or name.startswith("vf") for name in actor.state_dict())
    assert set(whole.get_state(inference_only=True)) == set(actor.state_dict())
    actor.set_state(whole.get_state(inference_only=True))
    batch = {Columns.OBS: obs_of()}
    mine, theirs = actor.forward_inference(batch), whole.forward_inference(batch)
    torch.testing.assert_close(mine[Columns.ACTION_DIST_INPUTS], theirs[Columns.ACTION_DIST_INPUTS])
    with pytest.raises(RuntimeError, match="inference_only"):
        actor.forward_train(batch)
    with pytest.raises(ValueError, match="of another module"):
        actor.set_state({})


def test_states_are_copies() -> None:
    module = made(DefaultPPOTorchRLModule)
    state = module.get_state()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(7.0)
    assert all((weight != 7.0).all() for name, weight in state.items() if name.endswith("weight"))
    readonly = {name: np.ascontiguousarray(weight) for name, weight in state.items()}
    for weight in readonly.values():
        weight.flags.writeable = False
    module.set_state(readonly)
    np.testing.assert_array_equal(module.get_state()["pi.net.mlp.0.weight"], state["pi.net.mlp.0.weight"])


def test_weights_of_another_shape_are_refused() -> None:
    module, other = made(DefaultPPOTorchRLModule), made(DefaultPPOTorchRLModule, fcnet_hiddens=[5])
    with pytest.raises(ValueError, match="but the module's"):
        module.set_state(other.get_state())


@pytest.mark.parametrize("cls", [DefaultPPOTorchRLModule, DefaultDQNTorchRLModule, DefaultBCTorchRLModule])
def test_states_have_the_names_of_torch(cls: type) -> None:
    module = made(cls)
    assert list(module.get_state()) == list(module.state_dict())


@pytest.mark.parametrize("shared", [True, False])
def test_an_lstm_over_a_sequence_equals_its_steps(shared: bool) -> None:
    module = made(DefaultPPOTorchRLModule, use_lstm=True, lstm_cell_size=5, vf_share_layers=shared)
    assert module.is_stateful()
    state = map_tree(lambda leaf: leaf.unsqueeze(0).repeat(3, 1, 1), module.get_initial_state())
    obs = obs_of(12).reshape(3, 4, 4)
    whole = module.forward_train({Columns.OBS: obs, Columns.STATE_IN: state})
    values = module.compute_values({Columns.OBS: obs, Columns.STATE_IN: state})
    assert values.shape == (3, 4)
    for step in range(4):
        batch = {Columns.OBS: obs[:, step : step + 1], Columns.STATE_IN: state}
        out = module.forward_inference(batch)
        one, all_of_them = out[Columns.ACTION_DIST_INPUTS][:, 0], whole[Columns.ACTION_DIST_INPUTS][:, step]
        torch.testing.assert_close(one, all_of_them)
        torch.testing.assert_close(module.compute_values(batch)[:, 0], values[:, step])
        state = out[Columns.STATE_OUT]
    map_tree(torch.testing.assert_close, state, whole[Columns.STATE_OUT])


def test_masked_logits_keep_losses_and_gradients_finite() -> None:
    module = made(DefaultPPOTorchRLModule)
    mask = torch.tensor([[1, 0, 1]] * 5)
    out = module.forward_train({Columns.OBS: obs_of(), "action_mask": mask})
    dist = module.get_train_action_dist_cls().from_logits(out[Columns.ACTION_DIST_INPUTS])
    assert (out[Columns.ACTION_DIST_INPUTS][:, 1] == MASKED_LOGIT).all()
    (dist.entropy() + dist.logp(torch.tensor([0, 2, 0, 2, 0])) + dist.kl(dist)).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in module.parameters() if p.grad is not None)


def test_masks_are_split_from_observations() -> None:
    space = gym.spaces.Dict({"action_mask": gym.spaces.Box(0, 1, (3,)), "observations": BOX})
    assert split_mask(space) == (BOX, True)
    assert split_mask(BOX) == (BOX, False)
    assert split_mask_obs({"action_mask": 1, "observations": 2}) == (2, 1)
    more = gym.spaces.Dict({"action_mask": gym.spaces.Box(0, 1, (3,)), "a": BOX, "b": BOX})
    assert sorted(split_mask(more)[0].spaces) == ["a", "b"]
    with pytest.raises(ValueError, match="nothing but"):
        split_mask(gym.spaces.Dict({"action_mask": BOX}))


def test_dueling_q_values_are_the_value_and_centred_advantages() -> None:
    module = made(DefaultDQNTorchRLModule)
    features = module.encoder({Columns.OBS: obs_of()})["encoder_out"]
    advantages, value = module.af(features), module.vf(features)
    expected = value + advantages - advantages.mean(-1, keepdim=True)
    torch.testing.assert_close(module.compute_q_values({Columns.OBS: obs_of()})[QF_PREDS], expected)


def test_distributional_q_values_use_the_value_of_a_dueling_head() -> None:
    module = made(DefaultDQNTorchRLModule, num_atoms=5, v_min=-1.0, v_max=1.0)
    module.make_target_networks()
    batch = {Columns.OBS: obs_of(), Columns.NEXT_OBS: obs_of() + 1.0}
    before = module.forward_train(batch)
    assert before[QF_LOGITS].shape == (5, 3, 5)
    torch.testing.assert_close(before["qf_probs"].sum(-1), torch.ones(5, 3))
    assert before[QF_NEXT_PREDS].shape == (5, 3)
    with torch.no_grad():
        module.vf.net.mlp[0].bias[4] += 5.0
    assert (module.compute_q_values(batch)[QF_PREDS] > before[QF_PREDS]).all()


def test_next_actions_that_are_masked_are_never_the_best() -> None:
    module = made(DefaultDQNTorchRLModule)
    module.make_target_networks()
    mask = torch.tensor([[0, 1, 0]] * 5)
    out = module.forward_train({Columns.OBS: obs_of(), Columns.NEXT_OBS: obs_of(), "next_action_mask": mask})
    assert (out[QF_NEXT_PREDS].argmax(-1) == 1).all()
    assert (out["qf_target_next_preds"].argmax(-1) == 1).all()


def test_epsilon_falls_by_steps_and_noise_replaces_it() -> None:
    module = made(DefaultDQNTorchRLModule, epsilon=[(0, 1.0), (100, 0.0)])
    assert module.epsilon(0) == 1.0
    assert module.epsilon(50) == pytest.approx(0.5)
    assert module.epsilon(1000) == 0.0
    noisy = made(DefaultDQNTorchRLModule, noisy=True, std_init=0.5)
    assert noisy.epsilon(0) == 0.0
    assert isinstance(noisy.af.net.mlp[0], NoisyLinear)


def test_noise_is_there_in_training_and_exploration_only() -> None:
    torch.manual_seed(0)
    layer = NoisyLinear(4, 3, 0.5)
    x = obs_of()
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))
    noisy = made(DefaultDQNTorchRLModule, noisy=True, std_init=5.0)
    noisy.eval()
    drawn = {tuple(noisy.forward_exploration({Columns.OBS: x})["actions"].tolist()) for _ in range(20)}
    assert len(drawn) > 1
    assert not noisy.training


def test_sac_gives_the_policy_no_way_to_change_q_functions() -> None:
    module = made(DefaultSACTorchRLModule, ACTIONS, fcnet_activation="relu", fusionnet_hiddens=[7])
    module.make_target_networks()
    batch = {Columns.OBS: obs_of(), Columns.NEXT_OBS: obs_of(), Columns.ACTIONS: torch.zeros(5, 2)}
    out = module.forward_train(batch)
    out["q_curr"].sum().backward()
    assert all(p.grad is None for p in [*module.qf.parameters(), *module.qf_encoder.parameters()])
    assert all(p.grad is not None for p in module.pi.parameters())
    assert all(p.requires_grad for p in module.qf.parameters())
    module.zero_grad(set_to_none=True)
    out["qf_preds"].sum().backward()
    assert all(p.grad is not None for p in module.qf.parameters())
    assert all(p.grad is None for p in module.pi.parameters())


def test_sac_has_discrete_actions_and_refuses_others() -> None:
    module = made(DefaultSACTorchRLModule)
    module.make_target_networks()
    out = module.forward_train({Columns.OBS: obs_of(), Columns.NEXT_OBS: obs_of()})
    assert out["qf_preds"].shape == (5, 3)
    torch.testing.assert_close(out["action_probs"].sum(-1), torch.ones(5))
    with pytest.raises(ValueError, match="Box or Discrete"):
        made(DefaultSACTorchRLModule, gym.spaces.MultiDiscrete([2, 2]))


def test_cql_values_actions_of_each_kind() -> None:
    module = made(DefaultCQLTorchRLModule, gym.spaces.Box(-3.0, 3.0, (2,)), num_actions=4)
    module.make_target_networks()
    batch = {Columns.OBS: obs_of(), Columns.NEXT_OBS: 0.5 * obs_of(), Columns.ACTIONS: torch.zeros(5, 2)}
    out = module.forward_train(batch)
    for kind in ("rand", "curr", "next"):
        assert out[f"q_{kind}_repeat"].shape == (5, 4, 1)
        assert out[f"q_twin_{kind}_repeat"].shape == (5, 4, 1)
        actions = out[f"actions_{kind}_repeat"]
        assert actions.abs().max() <= 1.0, "where the policy's actions are, whatever the environment's bounds"
        again = {Columns.OBS: batch[Columns.OBS].repeat_interleave(4, dim=0), Columns.ACTIONS: actions}
        values = module._qf_forward_train_helper(again, module.qf_encoder, module.qf)
        assert torch.allclose(out[f"q_{kind}_repeat"].flatten(), values, atol=1e-6), "at the batch's observations"
    assert out["logps_curr_repeat"].shape == (5, 4, 1)
    out["q_curr_repeat"].sum().backward()
    assert all(p.grad is None for p in module.pi.parameters())


def test_target_networks_follow_by_tau() -> None:
    module = made(DefaultAPPOTorchRLModule)
    module.make_target_networks()
    (main, target), *_ = module.get_target_network_pairs()
    with torch.no_grad():
        for parameter in main.parameters():
            parameter.add_(1.0)
    before = next(target.parameters()).clone()
    update_target_network(main_net=main, target_net=target, tau=0.25)
    torch.testing.assert_close(next(target.parameters()), before + 0.25)
    update_target_network(main_net=main, target_net=target, tau=1.0)
    torch.testing.assert_close(next(target.parameters()), next(main.parameters()))
    assert not any(p.requires_grad for p in target.parameters())
    assert "target_network_action_dist_inputs" in module.forward_target({Columns.OBS: obs_of()})
    with pytest.raises(ValueError, match="torch module"):
        make_target_network(3)


def test_lists_of_parameters_become_arrays_and_back() -> None:
    net = torch.nn.Linear(2, 3)
    arrays = convert_to_numpy({"all": list(net.parameters())})
    assert [array.shape for array in arrays["all"]] == [(3, 2), (3,)]
    tensors = convert_to_torch_tensor(arrays)
    assert all(torch.equal(a, b) for a, b in zip(tensors["all"], net.parameters()))


def test_target_networks_follow_with_batch_normalisation() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    target = make_target_network(net)
    net(torch.randn(4, 2))
    update_target_network(main_net=net, target_net=target, tau=0.25)
    assert target[1].num_batches_tracked == 1
    assert torch.allclose(target[1].running_mean, 0.25 * net[1].running_mean)


@pytest.mark.parametrize("side", [10, 42, 64, 84, 96])
def test_images_have_default_filters(side: int) -> None:
    space = gym.spaces.Box(0.0, 1.0, (side, side, 3), np.float32)
    module = DefaultBCTorchRLModule(observation_space=space, action_space=THREE, model_config={})
    out = module.forward_inference({Columns.OBS: obs_of(2, space)})
    assert out[Columns.ACTION_DIST_INPUTS].shape == (2, 3)


def test_sizes_of_convolutions_are_what_they_say() -> None:
    for padding in ([], ["valid"]):
        config = CNNEncoderConfig(input_dims=(11, 9, 2), cnn_filter_specifiers=[[4, [4, 3], 2, *padding], [5, 3, 1]])
        out = config.build()({Columns.OBS: torch.zeros(2, 11, 9, 2)})["encoder_out"]
        assert tuple(out.shape[1:]) == config.output_dims
    head = CNNTransposeHeadConfig(input_dims=[6], cnn_transpose_use_layernorm=True)
    assert tuple(head.build()(torch.zeros(2, 6)).shape[1:]) == head.output_dims == (32, 32, 3)


def test_a_gru_keeps_its_state() -> None:
    config = RecurrentEncoderConfig(input_dims=[4], recurrent_layer_type="gru", hidden_dim=5, num_layers=2)
    encoder = config.build()
    state = map_tree(lambda leaf: leaf.unsqueeze(0).repeat(3, 1, 1), encoder.get_initial_state())
    out = encoder({Columns.OBS: torch.zeros(3, 6, 4), Columns.STATE_IN: state})
    assert out["encoder_out"].shape == (3, 6, 5)
    assert out[Columns.STATE_OUT]["h"].shape == (3, 2, 5)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"fcnet_activation": "nope"}, "unknown activation"),
        ({"fcnet_kernel_initializer": "xavier_uniform"}, "xavier_uniform_"),
        ({"fcnet_hiddens": []}, "one layer at least"),
        ({"free_log_std": True}, "diagonal Gaussian"),
    ],
)
def test_wrong_model_configs_say_what_to_do(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        made(DefaultPPOTorchRLModule, **config)


def test_observations_without_an_encoder_say_what_to_do() -> None:
    with pytest.raises(ValueError, match="FlattenObservations"):
        made(DefaultPPOTorchRLModule, obs=gym.spaces.Discrete(3))
    with pytest.raises(ValueError, match="conv_filters"):
        made(DefaultPPOTorchRLModule, obs=gym.spaces.Box(0, 1, (13, 17, 3)))


class Own(TorchRLModule):
    """A user's module that needs no catalog."""

    def setup(self) -> None:
        self.net = nn.Linear(self.observation_space.shape[0], self.action_space.n)

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {Columns.ACTION_DIST_INPUTS: self.net(batch[Columns.OBS])}


def test_specs_build_modules_and_are_read_back() -> None:
    spec = RLModuleSpec(module_class=Own, observation_space=BOX, action_space=THREE, model_config={"width": 3})
    module = spec.build()
    assert module.model_config == {"width": 3}
    again = RLModuleSpec.from_dict(spec.to_dict())
    assert (again.module_class, again.observation_space, again.model_config) == (Own, BOX, {"width": 3})
    assert RLModuleSpec.from_module(module).module_class is Own
    assert module.get_exploration_action_dist_cls().__name__ == "TorchCategorical"
    with pytest.raises(ValueError, match="module_class"):
        RLModuleSpec().build()
    with pytest.raises(ValueError, match="observation_space"):
        RLModuleSpec(module_class=Own).build()


def test_updating_a_spec_fills_in_or_overrides() -> None:
    spec = RLModuleSpec(module_class=Own)
    spec.update(RLModuleSpec(module_class=RLModule, observation_space=BOX), override=False)
    assert (spec.module_class, spec.observation_space) == (Own, BOX)
    spec.update(RLModuleSpec(module_class=RLModule))
    assert spec.module_class is RLModule


def test_several_modules_act_on_batches_by_id() -> None:
    spec = RLModuleSpec(module_class=Own, observation_space=BOX, action_space=THREE)
    several = MultiRLModuleSpec(rl_module_specs={"a": spec, "b": spec}).build()
    out = several.forward_inference({"a": {Columns.OBS: obs_of()}, "unknown": {}})
    assert set(out) == {"a"}
    assert set(several.get_state(components="b")) == {"b"}
    assert MultiRLModuleSpec.from_dict(MultiRLModuleSpec.from_module(several).to_dict())["a"].module_class is Own
    with pytest.raises(ValueError, match="override=True"):
        several.add_module("a", spec.build())
    several.remove_module("a")
    assert several.keys() == {"b"}
    with pytest.raises(KeyError, match="no module 'a'"):
        several["a"]
    assert several["b"] is several.foreach_module(lambda module_id, module: module)[0]


def test_one_module_among_several_is_itself() -> None:
    module = made(DefaultPPOTorchRLModule)
    assert module.as_multi_rl_module()["default_policy"] is module
    assert isinstance(module.as_multi_rl_module(), MultiRLModule)


def test_ids_of_modules_are_names_of_files() -> None:
    validate_module_id("agent_1", error=True)
    for wrong in ("a/b", "", "ends.", "x "):
        with pytest.raises(ValueError, match="no file name"):
            validate_module_id(wrong, error=True)


def test_a_broken_catalog_is_told_at_its_first_use_only() -> None:
    class Broken(Catalog):
        def _determine_components_hook(self) -> None:
            raise ValueError("this catalog is broken")

    module = Own(observation_space=BOX, action_space=THREE, catalog_class=Broken)
    with pytest.raises(ValueError, match="is broken"):
        module.catalog  # noqa: B018


def test_a_module_is_saved_and_restored(tmp_path) -> None:
    module = made(DefaultPPOTorchRLModule)
    module.save_to_path(tmp_path)
    again = RLModule.from_checkpoint(tmp_path)
    assert type(again) is DefaultPPOTorchRLModule
    np.testing.assert_array_equal(again.get_state()["pi.net.mlp.0.weight"], module.get_state()["pi.net.mlp.0.weight"])

"""Modules: those of the algorithms, a user's own, several of them; what comes out of them, and their states."""
# needs: torch, gymnasium

import gymnasium as gym
import numpy as np
import torch

from hpc.rllib.algorithms.dqn import DQNConfig
from hpc.rllib.algorithms.impala import IMPALAConfig
from hpc.rllib.algorithms.ppo import PPOConfig
from hpc.rllib.algorithms.sac import SACConfig
from hpc.rllib.core import DEFAULT_MODULE_ID
from hpc.rllib.core.columns import Columns
from hpc.rllib.core.rl_module import MultiRLModule, MultiRLModuleSpec, RLModule, RLModuleSpec
from hpc.rllib.core.rl_module.apis import ValueFunctionAPI
from hpc.rllib.core.rl_module.default_model_config import DefaultModelConfig
from hpc.rllib.core.rl_module.torch import TorchRLModule


def tried(what, call):
    try:
        print(what, call())
    except Exception as error:
        print(what, type(error).__name__)


def shapes(value):
    if isinstance(value, dict):
        return {str(key): shapes(value[key]) for key in sorted(value)}
    return tuple(value.shape) if hasattr(value, "shape") else type(value).__name__


BOX = gym.spaces.Box(-1.0, 1.0, (4,), np.float32)
obs = torch.zeros((3, 4))
print(DEFAULT_MODULE_ID)

for kind, space in (
    (PPOConfig, gym.spaces.Discrete(2)), (PPOConfig, gym.spaces.Box(-1.0, 1.0, (2,), np.float32)),
    (PPOConfig, gym.spaces.MultiDiscrete([2, 3])), (IMPALAConfig, gym.spaces.Discrete(3)),
    (DQNConfig, gym.spaces.Discrete(2)), (SACConfig, gym.spaces.Box(-1.0, 1.0, (2,), np.float32)),
):  # fmt: skip
    spec = kind().environment(observation_space=BOX, action_space=space).get_rl_module_spec(inference_only=False)
    module = spec.build()
    print("==", kind.__name__, space)
    print(
        type(module).__name__,
        isinstance(module, TorchRLModule),
        isinstance(module, ValueFunctionAPI),
        module.is_stateful(),
    )
    print("inference", shapes(module.forward_inference({Columns.OBS: obs})))
    if kind is not DQNConfig:
        print("exploration", shapes(module.forward_exploration({Columns.OBS: obs})))
    if kind in (PPOConfig, IMPALAConfig):
        print("train", sorted(module.forward_train({Columns.OBS: obs})))
        print("values", shapes(module.compute_values({Columns.OBS: obs})))
        print(
            module.get_inference_action_dist_cls().__name__.replace("Partial", "").rpartition(".")[2].strip("'>"),
            module.get_train_action_dist_cls().__name__ == module.get_exploration_action_dist_cls().__name__,
        )
    light = (
        kind().environment(observation_space=BOX, action_space=space).get_rl_module_spec(inference_only=True).build()
    )
    whole, part = sum(p.numel() for p in module.parameters()), sum(p.numel() for p in light.parameters())
    print("fewer parameters for inference only", part < whole)

print("== model config")
config = PPOConfig().environment(observation_space=BOX, action_space=gym.spaces.Discrete(2))
for model in (
    DefaultModelConfig(fcnet_hiddens=[8], fcnet_activation="relu"), DefaultModelConfig(fcnet_hiddens=[8], vf_share_layers=False),
    DefaultModelConfig(fcnet_hiddens=[8], use_lstm=True, lstm_cell_size=5), {"fcnet_hiddens": [16, 16]},
    DefaultModelConfig(fcnet_hiddens=[8], head_fcnet_hiddens=[7]),
):  # fmt: skip
    module = config.copy().rl_module(model_config=model).get_rl_module_spec(inference_only=False).build()
    print(sum(p.numel() for p in module.parameters()), module.is_stateful(), shapes(module.get_initial_state()))
    if module.is_stateful():
        state = {key: torch.zeros((3, *np.shape(value))) for key, value in module.get_initial_state().items()}
        print(shapes(module.forward_inference({Columns.OBS: torch.zeros((3, 6, 4)), Columns.STATE_IN: state})))
image = gym.spaces.Box(0, 255, (42, 42, 3), np.uint8)
convolved = (
    PPOConfig()
    .environment(observation_space=image, action_space=gym.spaces.Discrete(2))
    .rl_module(model_config=DefaultModelConfig(conv_filters=[[4, 4, 2], [8, 4, 2]], fcnet_hiddens=[8]))
    .get_rl_module_spec(inference_only=False)
    .build()
)
print("image", shapes(convolved.forward_inference({Columns.OBS: torch.zeros((2, 42, 42, 3))})))


class Own(TorchRLModule, ValueFunctionAPI):
    def setup(self):
        width = self.model_config["width"]
        self.body = torch.nn.Linear(self.observation_space.shape[0], width)
        self.pi = torch.nn.Linear(width, self.action_space.n)
        self.vf = torch.nn.Linear(width, 1)

    def _forward(self, batch, **kwargs):
        return {Columns.ACTION_DIST_INPUTS: self.pi(torch.relu(self.body(batch[Columns.OBS])))}

    def _forward_train(self, batch, **kwargs):
        out = self._forward(batch)
        return {**out, "trained": True}

    def compute_values(self, batch, embeddings=None):
        return self.vf(torch.relu(self.body(batch[Columns.OBS]))).squeeze(-1)


print("== own")
spec = RLModuleSpec(
    module_class=Own, observation_space=BOX, action_space=gym.spaces.Discrete(3), model_config={"width": 6}
)
own = spec.build()
print(
    isinstance(own, RLModule),
    own.observation_space,
    own.action_space,
    own.model_config,
    own.inference_only,
    own.framework,
)
print(
    sorted(own.forward_train({Columns.OBS: obs})),
    sorted(own.forward_inference({Columns.OBS: obs})),
    sorted(own.forward_exploration({Columns.OBS: obs})),
)
print(own.get_inference_action_dist_cls().__name__, own.get_initial_state(), own.unwrapped() is own)
state = own.get_state()
print(sorted(state), type(state["pi.weight"]).__name__, state["pi.weight"].shape)
twin = spec.build()
twin.set_state(state)
print(
    bool(
        (
            twin.forward_inference({Columns.OBS: obs})[Columns.ACTION_DIST_INPUTS]
            == own.forward_inference({Columns.OBS: obs})[Columns.ACTION_DIST_INPUTS]
        ).all()
    )
)
print(sorted(spec.to_dict()))
back = RLModuleSpec.from_dict(spec.to_dict())
print(back.module_class is Own, back.model_config)

print("== several")
several = MultiRLModuleSpec(
    rl_module_specs={
        "a": spec,
        "b": RLModuleSpec(
            module_class=Own, observation_space=BOX, action_space=gym.spaces.Discrete(2), model_config={"width": 3}
        ),
    }
)
both = several.build()
print(
    type(both).__name__,
    isinstance(both, MultiRLModule),
    sorted(both.keys()),
    "a" in both,
    len(both),
    type(both["a"]).__name__,
)
out = both.forward_inference({"a": {Columns.OBS: obs}, "b": {Columns.OBS: obs}})
print(shapes(out))
print(sorted(both.get_state()), sorted(both.get_state(components="a")))
both.add_module("c", spec.build())
print(sorted(both.keys()))
tried("a module that is there", lambda: both.add_module("c", spec.build()))
both.remove_module("c")
print(sorted(both.keys()))
tried("one that is not there", lambda: both.remove_module("zzz"))
tried("no such module", lambda: both["zzz"])
several.add_modules({"d": spec})
print(
    sorted(several.rl_module_specs),
    several.module_specs is several.rl_module_specs if hasattr(several, "module_specs") else "",
)

"""Losses of the learners on fixed batches, with a module of the user's whose weights are given."""
# needs: torch, gymnasium

import gymnasium as gym
import numpy as np
import torch

from hpc.rllib.algorithms.bc import BCConfig
from hpc.rllib.algorithms.marwil import MARWILConfig
from hpc.rllib.algorithms.ppo import PPOConfig
from hpc.rllib.core.columns import Columns
from hpc.rllib.core.rl_module import RLModuleSpec
from hpc.rllib.core.rl_module.apis import TARGET_NETWORK_ACTION_DIST_INPUTS, TargetNetworkAPI, ValueFunctionAPI
from hpc.rllib.core.rl_module.torch import TorchRLModule

BOX = gym.spaces.Box(-1.0, 1.0, (3,), np.float32)


class Fixed(TorchRLModule, ValueFunctionAPI, TargetNetworkAPI):
    def setup(self):
        self.pi = torch.nn.Linear(3, 2)
        self.vf = torch.nn.Linear(3, 1)
        self.old = torch.nn.Linear(3, 2)
        with torch.no_grad():
            for number, parameter in enumerate(self.parameters()):
                count = parameter.numel()
                parameter.copy_(torch.sin(torch.arange(count) * 1.7 + number).reshape(parameter.shape))

    def make_target_networks(self):
        pass

    def get_target_network_pairs(self):
        return []

    def forward_target(self, batch, **kwargs):
        return {TARGET_NETWORK_ACTION_DIST_INPUTS: self.old(batch[Columns.OBS])}

    def _forward(self, batch, **kwargs):
        return {Columns.ACTION_DIST_INPUTS: self.pi(batch[Columns.OBS])}

    def compute_values(self, batch, embeddings=None):
        return self.vf(batch[Columns.OBS]).squeeze(-1)


def batch_of(rows):
    t = torch.arange(rows, dtype=torch.float32)
    inputs = torch.stack([torch.sin(t), torch.cos(2 * t)], 1)
    actions = (torch.arange(rows) * 7 % 3 % 2).long()
    return {
        Columns.OBS: torch.stack([torch.sin(t), torch.cos(t), torch.sin(3 * t)], 1),
        Columns.ACTIONS: actions,
        Columns.ACTION_DIST_INPUTS: inputs,
        Columns.ACTION_LOGP: torch.log_softmax(inputs, 1).gather(1, actions[:, None])[:, 0],
        Columns.REWARDS: torch.cos(t),
        Columns.ADVANTAGES: torch.sin(5 * t),
        Columns.VALUE_TARGETS: torch.cos(5 * t),
        Columns.VF_PREDS: torch.sin(t) * 0.3,
        Columns.TERMINATEDS: (torch.arange(rows) % 7) == 6,
        Columns.TRUNCATEDS: torch.zeros(rows, dtype=torch.bool),
    }


def loss_of(config, masked=False):
    config = config.environment(observation_space=BOX, action_space=gym.spaces.Discrete(2)).rl_module(
        rl_module_spec=RLModuleSpec(module_class=Fixed)
    )
    learner = config.build_learner()
    learner.build()
    batch = batch_of(20)
    if masked:
        batch[Columns.LOSS_MASK] = (torch.arange(20) % 4) != 3
    module = learner.module["default_policy"].unwrapped()
    out = module.forward_train(batch)
    loss = learner.compute_losses(fwd_out={"default_policy": out}, batch={"default_policy": batch})["default_policy"]
    gradients = learner.compute_gradients({"default_policy": loss})
    norm = sum(float((g**2).sum()) for g in gradients.values() if g is not None) ** 0.5
    print("   loss", round(float(loss), 4) + 0.0, "gradients", round(norm, 4))


quick = lambda kind: kind().learners(num_learners=0, num_gpus_per_learner=0).training(lr=0.01)

print("PPO")
loss_of(quick(PPOConfig))
print("PPO, masked")
loss_of(quick(PPOConfig), masked=True)
print("PPO, no KL, entropy")
loss_of(quick(PPOConfig).training(use_kl_loss=False, entropy_coeff=0.1, clip_param=0.1))
print("PPO, small clip of the values")
loss_of(quick(PPOConfig).training(vf_clip_param=0.5, vf_loss_coeff=0.3))
print("PPO, no critic")
loss_of(quick(PPOConfig).training(use_critic=False))
print("BC")
loss_of(quick(BCConfig))
print("MARWIL")
loss_of(quick(MARWILConfig))
print("MARWIL, beta 0")
loss_of(quick(MARWILConfig).training(beta=0.0))

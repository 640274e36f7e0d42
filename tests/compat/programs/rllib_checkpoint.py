"""Checkpoints: what is in the folder, what comes back, and parts of it."""
# needs: torch, gymnasium

import json
import os
import pathlib

import numpy as np

from hpc.rllib.algorithms.algorithm import Algorithm
from hpc.rllib.algorithms.ppo import PPO, PPOConfig
from hpc.rllib.core.columns import Columns
from hpc.rllib.core.rl_module import MultiRLModule, RLModule


def tried(what, call):
    try:
        print(what, call())
    except Exception as error:
        print(what, "refused")


config = (
    PPOConfig().environment("CartPole-v1").env_runners(num_env_runners=0).rl_module(model_config={"fcnet_hiddens": [8]})
)
config.training(train_batch_size_per_learner=200, minibatch_size=100, num_epochs=1, lr=0.01).debugging(seed=1)
algo = config.build_algo()
for _ in range(2):
    result = algo.train()

folder = algo.save_to_path(os.path.abspath("saved"))
print(type(folder).__name__, pathlib.Path(folder).name)
for name in sorted(str(path.relative_to(folder)) for path in pathlib.Path(folder).rglob("*") if path.is_dir()):
    print("folder", name)
for name in (".", "env_runner", "learner_group/learner", "learner_group/learner/rl_module/default_policy"):
    print(name, sorted(path.name for path in (pathlib.Path(folder) / name).iterdir() if path.is_file()))
facts = json.loads((pathlib.Path(folder) / "rllib_checkpoint.json").read_text())
print(
    sorted(key for key in facts if not key.startswith(("ray", "hpc"))),
    facts["class_and_ctor_args_file"],
    facts["state_file"],
)
state = algo.get_state()
print(sorted(state))


def weights(one):
    return {key: np.asarray(value) for key, value in one.get_module().get_state().items()}


def same(one, other):
    mine, yours = weights(one), weights(other)
    return sorted(mine) == sorted(yours) and all(np.array_equal(mine[key], yours[key]) for key in mine)


again = Algorithm.from_checkpoint(folder)
print(type(again).__name__, isinstance(again, PPO), again.iteration, same(algo, again), again.config.lr)
after = again.train()
print(after["training_iteration"], after["num_env_steps_sampled_lifetime"], result["num_env_steps_sampled_lifetime"])
again.stop()

fresh = config.copy(copy_frozen=False).build_algo()
print("fresh", same(algo, fresh), fresh.iteration)
fresh.restore_from_path(folder)
print("restored", same(algo, fresh), fresh.iteration)
fresh.stop()

module = RLModule.from_checkpoint(pathlib.Path(folder) / "learner_group" / "learner" / "rl_module" / "default_policy")
print(
    type(module).__name__,
    set(weights(algo)) < set(module.get_state()),
    all(np.array_equal(module.get_state()[key], value) for key, value in weights(algo).items()),
)
both = MultiRLModule.from_checkpoint(pathlib.Path(folder) / "learner_group" / "learner" / "rl_module")
print(type(both).__name__, sorted(both.keys()))
import torch

obs = torch.from_numpy(np.ones((1, 4), np.float32))
left = algo.get_module("default_policy").forward_inference({Columns.OBS: obs})[Columns.ACTION_DIST_INPUTS]
right = module.forward_inference({Columns.OBS: obs})[Columns.ACTION_DIST_INPUTS]
print(torch.equal(left, right), tuple(left.shape))

saved = algo.save(os.path.abspath("by_tune"))
print(hasattr(saved, "checkpoint"), saved.checkpoint is not None)
third = PPO.from_checkpoint(saved.checkpoint.path)
print(type(third).__name__, third.iteration, same(algo, third))
third.stop()
tried("a folder that is not there", lambda: Algorithm.from_checkpoint("nowhere"))
algo.stop()

"""PPO's module under the name that it had before."""

from hpc.rllib.algorithms.ppo.torch.default_ppo_torch_rl_module import DefaultPPOTorchRLModule as PPOTorchRLModule

__all__ = ["PPOTorchRLModule"]

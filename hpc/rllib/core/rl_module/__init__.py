"""RLModules: the networks of a policy with their forward passes, several of them, and what they are built from."""

from __future__ import annotations

from hpc.rllib.core.rl_module.multi_rl_module import MultiRLModule, MultiRLModuleSpec
from hpc.rllib.core.rl_module.rl_module import RLModule, RLModuleSpec, validate_module_id

__all__ = ["MultiRLModule", "MultiRLModuleSpec", "RLModule", "RLModuleSpec", "validate_module_id"]

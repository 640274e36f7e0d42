"""RLlib's path of SAC's catalog."""

from __future__ import annotations

from hpc.rllib.core.default_modules.sac import SACCatalog

__all__ = ["SACCatalog"]

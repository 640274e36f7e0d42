"""RLlib's path of BC's catalog."""

from __future__ import annotations

from hpc.rllib.core.default_modules.bc import BCCatalog

__all__ = ["BCCatalog"]

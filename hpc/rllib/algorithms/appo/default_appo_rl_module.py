"""RLlib's path of APPO's default module."""

from __future__ import annotations

from hpc.rllib.core.default_modules.appo import DefaultAPPORLModule

__all__ = ["DefaultAPPORLModule"]

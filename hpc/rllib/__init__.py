"""Reinforcement learning: RLlib's names, defaults and semantics (its new API stack).

Names are imported when first used. torch and gymnasium are needed: ``pip install "hpc[rllib]"``.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from hpc.util.lazy import LazyNames

if TYPE_CHECKING:
    from hpc.rllib.agent import Agent as Agent
    from hpc.rllib.algorithms.algorithm import Algorithm as Algorithm
    from hpc.rllib.algorithms.algorithm_config import AlgorithmConfig as AlgorithmConfig
    from hpc.rllib.callbacks.callbacks import RLlibCallback as RLlibCallback
    from hpc.rllib.env.multi_agent_env import MultiAgentEnv as MultiAgentEnv

_missing = [name for name in ("torch", "gymnasium") if importlib.util.find_spec(name) is None]
if _missing:
    raise ImportError(f'hpc.rllib needs {" and ".join(_missing)}: pip install "hpc[rllib]"')

#: Where each name is.
_HOME = {
    "Agent": "hpc.rllib.agent",
    "Algorithm": "hpc.rllib.algorithms.algorithm",
    "AlgorithmConfig": "hpc.rllib.algorithms.algorithm_config",
    "MultiAgentEnv": "hpc.rllib.env.multi_agent_env",
    "RLlibCallback": "hpc.rllib.callbacks.callbacks",
}
__all__ = sorted(_HOME)

_lazy = LazyNames(__name__, _HOME)


def __getattr__(name: str) -> Any:
    return _lazy.get(name)


def __dir__() -> list[str]:
    return _lazy.all()

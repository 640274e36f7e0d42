"""Environments, runners that step them, and the episodes they make."""

from __future__ import annotations

from typing import Any

#: Keys of the spaces that runners give.
INPUT_ENV_SPACES = "__env__"
INPUT_ENV_SINGLE_SPACES = "__env_single__"
_LAZY = {
    "EnvContext": "hpc.rllib.env.env_context",
    "EnvRunner": "hpc.rllib.env.env_runner",
    "MultiAgentEnv": "hpc.rllib.env.multi_agent_env",
    "make_multi_agent": "hpc.rllib.env.multi_agent_env",
    "PettingZooEnv": "hpc.rllib.env.wrappers.pettingzoo_env",
    "ParallelPettingZooEnv": "hpc.rllib.env.wrappers.pettingzoo_env",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)

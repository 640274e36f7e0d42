"""Algorithms: their configurations, what they share, and each of them in its folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpc.util.lazy import LazyNames

if TYPE_CHECKING:
    from hpc.rllib.algorithms.algorithm import Algorithm as Algorithm
    from hpc.rllib.algorithms.algorithm_config import AlgorithmConfig as AlgorithmConfig

#: Where each name is.
_HOME = {
    "Algorithm": "hpc.rllib.algorithms.algorithm",
    "AlgorithmConfig": "hpc.rllib.algorithms.algorithm_config",
}
for _name, _module in (
    ("APPO", "appo"),
    ("BC", "bc"),
    ("CQL", "cql"),
    ("DQN", "dqn"),
    ("IMPALA", "impala"),
    ("MARWIL", "marwil"),
    ("PPO", "ppo"),
    ("SAC", "sac"),
):
    _HOME[_name] = _HOME[f"{_name}Config"] = f"hpc.rllib.algorithms.{_module}"
__all__ = sorted(_HOME)

_lazy = LazyNames(__name__, _HOME)


def __getattr__(name: str) -> Any:
    return _lazy.get(name)


def __dir__() -> list[str]:
    return _lazy.all()

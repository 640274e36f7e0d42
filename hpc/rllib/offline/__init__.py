"""Recorded experience: written by env runners, read into arrays, and learnt from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpc.util.lazy import LazyNames

if TYPE_CHECKING:
    from hpc.rllib.offline.offline_data import OfflineData as OfflineData
    from hpc.rllib.offline.offline_env_runner import OfflineSingleAgentEnvRunner as OfflineSingleAgentEnvRunner

#: Where each name is.
_HOME = {
    "OfflineData": "hpc.rllib.offline.offline_data",
    "OfflineSingleAgentEnvRunner": "hpc.rllib.offline.offline_env_runner",
}
__all__ = sorted(_HOME)

_lazy = LazyNames(__name__, _HOME)


def __getattr__(name: str) -> Any:
    return _lazy.get(name)


def __dir__() -> list[str]:
    return _lazy.all()

"""Algorithms by their names."""

from __future__ import annotations

import difflib
import importlib
from typing import Any

from hpc.tune.registry import LIBRARY_TRAINABLES

#: Algorithms of RLlib that are not there.
_ABSENT = {
    "DreamerV3": "use SAC or PPO",
    "IQL": "use CQL or MARWIL",
    "TQC": "use SAC",
    "APEX-DQN": "use APEX",
    "ApexDQN": "use APEX",
    "A2C": "use PPO",
    "A3C": "use IMPALA",
    "PG": "use PPO",
    "SimpleQ": "use DQN",
}

ALGORITHMS: tuple[str, ...] = tuple(sorted(LIBRARY_TRAINABLES))


def get_algorithm_class(alg: str, return_config: bool = False) -> Any:
    """The algorithm of this name; return_config: and its default configuration. Raises ValueError for other names."""
    if alg not in LIBRARY_TRAINABLES:
        raise ValueError(_unknown(alg))
    module, _, name = LIBRARY_TRAINABLES[alg].rpartition(".")
    kind = getattr(importlib.import_module(module), name)
    return (kind, kind.get_default_config()) if return_config else kind


def get_trainable_cls(trainable_name: str) -> Any:
    """The algorithm, or the registered trainable, of this name."""
    from hpc.tune import registry

    return registry.get_trainable_cls(trainable_name)


def _unknown(name: str) -> str:
    if name in _ABSENT:
        return f"there is no algorithm {name!r} in hpc.rllib: {_ABSENT[name]}"
    near = difflib.get_close_matches(name, ALGORITHMS, 1, 0.4)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"there is no algorithm {name!r}{hint} There are: {', '.join(ALGORITHMS)}"

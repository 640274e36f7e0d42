"""Rows of experience on their way through connectors: one per environment, all at once."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Rows:
    """What the environments of a runner just gave, for connectors from environment to module.

    A connector with ``on_rows(rows)`` changes ``obs`` for all environments at once. What it has to remember by
    environment (frames, last actions) lies in ``memory``, which belongs to the runner.
    """

    #: Observations, ``[N, ...]``, perhaps nested.
    obs: Any
    #: Where the observation is the first one of an episode: bool [N].
    first: np.ndarray
    #: The module's actions that led to it; None at the start.
    actions: Any = None
    #: Rewards that came with it: float32 [N].
    rewards: np.ndarray | None = None
    #: Rows that have a new observation; None where all have.
    valid: np.ndarray | None = None
    #: The agent of all rows (multi-agent).
    agent_id: Hashable = None
    #: Masks of allowed actions, once they are taken out of the observations.
    mask: Any = None
    explore: bool = True
    memory: dict[Any, Any] = field(default_factory=dict)


@dataclass
class Acts:
    """Actions of a module, ``[N, ...]``, on their way to the environments."""

    #: The module's own, as they are recorded.
    actions: Any
    #: What the environment gets.
    for_env: Any
    agent_id: Hashable = None

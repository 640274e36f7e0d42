"""Modules with target networks."""

from __future__ import annotations

import abc
from typing import Any

TARGET_NETWORK_ACTION_DIST_INPUTS = "target_network_action_dist_inputs"


class TargetNetworkAPI(abc.ABC):
    """A module with slowly moving copies of some of its networks."""

    @abc.abstractmethod
    def make_target_networks(self) -> None:
        """Make the copies; a learner calls it once, after it built the module."""

    @abc.abstractmethod
    def get_target_network_pairs(self) -> list[tuple[Any, Any]]:
        """Pairs of (network, its copy)."""

    @abc.abstractmethod
    def forward_target(self, batch: dict[str, Any]) -> Any:
        """What the copies compute from the batch."""

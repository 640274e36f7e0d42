"""Modules with a loss of their own."""

from __future__ import annotations

import abc
from typing import Any


class SelfSupervisedLossAPI(abc.ABC):
    """A module that computes its loss itself, as a world model or a curiosity network does."""

    @abc.abstractmethod
    def compute_self_supervised_loss(
        self,
        *,
        learner: Any,
        module_id: str,
        config: Any,
        batch: dict[str, Any],
        fwd_out: dict[str, Any],
        **kwargs: Any,
    ) -> Any:
        """The loss to minimise, instead of the learner's ``compute_loss_for_module``."""

"""What a program can hook into the driver's side of a run: Ray Train v2's UserCallback."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpc.train.checkpoint import Checkpoint
    from hpc.train.config import RunConfig, ScalingConfig


@dataclass(frozen=True)
class TrainRunContext:
    """The run that a callback is told of. ``run_config.name`` is the run's name, also where none was given."""

    run_config: RunConfig
    scaling_config: ScalingConfig
    train_loop_config: dict[str, Any] | None


class UserCallback:
    """Subclass it and give instances to ``RunConfig(callbacks=[...])``. Its methods run in the driver.

    An exception raised by a callback ends the run.
    """

    def after_report(
        self, run_context: TrainRunContext, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None
    ) -> None:
        """All ranks have reported. metrics: of each rank, by rank; checkpoint: the one that was stored, if any."""

    def after_exception(self, run_context: TrainRunContext, worker_exceptions: dict[int, Exception]) -> None:
        """Ranks have failed: the exceptions by rank. They may be started again after this (FailureConfig)."""

"""What a user may be told of a run while it goes on."""

from __future__ import annotations

from typing import Any

from hpc.runs.checkpoint import Checkpoint


class UserCallback:
    """Subclass it and give instances to ``RunConfig(callbacks=[...])``. Its methods run in the driver.

    An exception raised by a callback ends the run with a ControllerError.
    """

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None) -> None:
        """All ranks have reported. metrics: of each rank, by rank; checkpoint: the one that was stored, if any."""

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Ranks have failed: the exceptions by rank. They may be started again after this (FailureConfig)."""

"""A trainer inside of a trial: what its ranks report is what the trial reports. The module's name is Ray's."""

from __future__ import annotations

from typing import Any

from hpc.runs.callbacks import UserCallback
from hpc.runs.checkpoint import Checkpoint
from hpc.tune.context import report, state

#: The metric that says where the trainer's checkpoint is.
CHECKPOINT_PATH_KEY = "checkpoint_path"


class TuneReportCallback(UserCallback):
    """Give one to ``hpc.train.RunConfig(callbacks=[...])`` of a trainer whose ``fit`` is called in a trial.

    Rank 0's metrics of each report become a result of the trial. With a checkpoint the result has its path as
    "checkpoint_path": the files stay in the trainer's own directory. A trial that is stopped ends the trainer.

    Raises RuntimeError outside of a trial's function.
    """

    def __init__(self) -> None:
        if state.session is None or state.session.report is None:
            raise RuntimeError("TuneReportCallback is for a trainer in a function that a Tuner runs: make it there")

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None) -> None:
        """Report what rank 0 has reported."""
        result = dict(metrics[0])
        if checkpoint is not None:
            result[CHECKPOINT_PATH_KEY] = checkpoint.path
        report(result)

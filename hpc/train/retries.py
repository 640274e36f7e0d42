"""Whether a run that has failed is started again. Pure: three kinds of failures, each with a number of its own."""

from __future__ import annotations

from typing import Literal

from hpc.runs.config import FailureConfig
from hpc.train.errors import ControllerError, PreemptionError, TrainingFailedError, WorkerStartError

Kind = Literal["worker", "pre-emption", "controller"]


class Retries:
    """The failures of a run so far."""

    def __init__(self, config: FailureConfig) -> None:
        self._most: dict[Kind, int] = {
            "worker": config.max_failures,
            "pre-emption": config.max_preemption_failures,
            "controller": config.controller_failure_limit,
        }
        self._count: dict[Kind, int] = dict.fromkeys(self._most, 0)

    @property
    def failed_starts(self) -> int:
        """How often workers have died before the training function began."""
        return self._count["controller"]

    def again(self, error: TrainingFailedError, preempted: bool = False) -> str:
        """Count a failure. How it counts, in words, if the run is to be started again; "" if not.

        preempted: a rank has died on a node that was taken away. What others saw may follow from it.
        """
        if isinstance(error, ControllerError) and not isinstance(error.controller_failure, WorkerStartError):
            return ""
        kind: Kind = "controller" if isinstance(error, ControllerError) else "worker"
        if preempted or isinstance(error, PreemptionError):
            kind = "pre-emption"
        self._count[kind] += 1
        count, most = self._count[kind], self._most[kind]
        if 0 <= most < count:
            return ""
        what = {"worker": "failure", "pre-emption": "pre-emption", "controller": "failed start"}[kind]
        return f"{what} {count}" + (f" of at most {most}" if most > 0 else "")

"""How training fails. ``fit`` raises one of these, all of them TrainingFailedError."""

from __future__ import annotations

from typing import Any

from hpc import spi
from hpc.runs.drained import Drained as Drained
from hpc.train.preemption import PreemptionInfo


class TrainingFailedError(Exception):
    """Training has failed."""


class WorkerGroupError(TrainingFailedError):
    """One or more ranks failed; the message has the remote traceback of the first of them.

    ``worker_failures`` maps ranks to their exceptions.
    """

    def __init__(self, error_message: str, worker_failures: dict[int, Exception]) -> None:
        super().__init__(f"Training failed due to worker errors:\n{error_message}")
        self.worker_failures = worker_failures
        self._error_message = error_message

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._error_message, self.worker_failures)


class RankHangError(WorkerGroupError):
    """Ranks have waited for others for longer than `RunConfig.hang_end_s`; ``worker_failures`` has a TimeoutError for
    each rank that they wait for. The message says where those are."""


class ControllerError(TrainingFailedError):
    """The run failed on the driver's side: no room for the workers, the results cannot be stored, a callback raised.

    ``controller_failure`` is the exception.
    """

    def __init__(self, controller_failure: Exception) -> None:
        name, _, words = spi.said(controller_failure).partition(": ")
        super().__init__(f"Training failed due to controller error:\n{words or name}")
        self.controller_failure = controller_failure

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.controller_failure,)


class WorkerStartError(Exception):
    """Workers have died before the training function began. It is the failure of a ControllerError."""


class PreemptionError(TrainingFailedError):
    """Nodes with ranks are taken away. It is raised when that has happened more often than FailureConfig allows.

    ``preemption_info`` says which and when; ``drain_timed_out``: they went before all ranks had saved.
    """

    def __init__(self, preemption_info: PreemptionInfo, drain_timed_out: bool = False) -> None:
        nodes = ", ".join(preemption_info.preempted_node_ids)
        when = ", before all ranks had saved" if drain_timed_out else ""
        super().__init__(
            f"Training was interrupted: nodes are taken away (node {nodes}, with the ranks "
            f"{preemption_info.preempted_ranks}){when}"
        )
        self.preemption_info = preemption_info
        self.drain_timed_out = drain_timed_out

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.preemption_info, self.drain_timed_out)


class Resized(Exception):
    """The run begins anew with another number of ranks, from the checkpoint that was just stored. The driver catches
    it."""

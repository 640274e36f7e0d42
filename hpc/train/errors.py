"""How training fails. ``fit`` raises one of these, all of them TrainingFailedError."""

from __future__ import annotations


class TrainingFailedError(Exception):
    """Training has failed."""


class WorkerGroupError(TrainingFailedError):
    """One or more ranks failed; the message has the remote traceback of the first of them.

    ``worker_failures`` maps ranks to their exceptions.
    """

    def __init__(self, error_message: str, worker_failures: dict[int, Exception]) -> None:
        super().__init__(error_message, worker_failures)
        self.error_message = error_message
        self.worker_failures = worker_failures

    def __str__(self) -> str:
        return self.error_message


class ControllerError(TrainingFailedError):
    """The run failed on the driver's side: no room for the workers, or the results cannot be stored."""


class Drained(SystemExit):
    """The session drains, and the checkpoint that was asked for is stored: ``fit`` ends the run.

    A script that does not catch it ends with exit code 75. It goes on in the next job of a chain, or in this one when
    that is started again.
    """

    def __init__(self, what: str) -> None:
        super().__init__(75)
        self.what = what

    def __str__(self) -> str:
        return self.what

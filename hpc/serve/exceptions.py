"""Errors of services. Their names are Ray's, except `ReplicaDiedError`: there it is the actor's error alone."""

from __future__ import annotations

from typing import Any

from hpc.exceptions import ActorDiedError, TaskCancelledError
from hpc.serve.messages import DeploymentID


class RayServeException(Exception):
    """Base of the errors of services."""


class gRPCStatusError(RayServeException):
    """An error of a user's code with the status of gRPC that its code has set."""

    def __init__(
        self,
        original_exception: BaseException,
        code: Any = None,
        details: str | None = None,
        trailing_metadata: tuple[tuple[str, Any], ...] = (),
    ) -> None:
        super().__init__(str(original_exception))
        self.original_exception = original_exception
        self.grpc_code = code
        self.grpc_details = details
        #: What its code has set behind the answer. Ray drops it.
        self.trailing_metadata = trailing_metadata

    def __reduce__(self) -> tuple[Any, ...]:
        return gRPCStatusError, (self.original_exception, self.grpc_code, self.grpc_details, self.trailing_metadata)


class BackPressureError(RayServeException):
    """As many requests wait as ``max_queued_requests`` allows. This one was not sent."""

    def __init__(
        self,
        num_queued_requests: int,
        max_queued_requests: int,
        status_code: int = 503,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(num_queued_requests, max_queued_requests, status_code, retry_after_s)
        self.status_code = status_code
        self.retry_after_s = retry_after_s
        self.message = (
            f"Request dropped due to backpressure (num_queued_requests={num_queued_requests}, "
            f"max_queued_requests={max_queued_requests})."
        )

    def __str__(self) -> str:
        return self.message


class RequestCancelledError(RayServeException, TaskCancelledError):
    """The request was cancelled."""

    def __init__(self, request_id: str | None = None) -> None:
        super().__init__(request_id)
        self._request_id = request_id

    def __str__(self) -> str:
        return f"Request {self._request_id} was cancelled." if self._request_id else "Request was cancelled."


class DeploymentUnavailableError(RayServeException):
    """The deployment takes no requests: it failed to deploy, or it was deleted."""

    def __init__(self, deployment_id: DeploymentID, reason: str = "it failed to deploy") -> None:
        super().__init__(deployment_id, reason)
        self.deployment_id = deployment_id
        self.message = f"{deployment_id} is unavailable because {reason}."

    def __str__(self) -> str:
        return self.message


class ReplicaUnavailableError(RayServeException):
    """The replica that was chosen is there no more."""

    def __init__(self, replica_id: str) -> None:
        super().__init__(replica_id)
        self.message = f"Replica {replica_id} is no longer available."

    def __str__(self) -> str:
        return self.message


class ReplicaDiedError(RayServeException, ActorDiedError):
    """The replica has died, or says nothing, while it had the request. The request may have run, so it was not sent to
    another one. Safe ones are: send those with ``retry="always"``, or over HTTP by an idempotent method."""

    def __init__(self, request_id: str, deployment: str, why: str) -> None:
        super().__init__(request_id, deployment, why)
        self.request_id = request_id

    def __str__(self) -> str:
        request_id, deployment, why = self.args
        return (
            f"the replica of {deployment} that had request {request_id} has died ({why}). The request may have run, so "
            "it was not sent to another replica"
        )


class RequestTimeoutError(RayServeException, TimeoutError):
    """The time of the request was over before a replica had an answer."""

"""Answers of a proxy to requests that no replica has answered."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from hpc.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaDiedError
from hpc.serve.http.convert import ERROR, TEXT, retry_after
from hpc.serve.http.head import Refused
from hpc.serve.messages import HttpReply

logger = logging.getLogger("hpc.serve")
PLAIN = [(b"content-type", TEXT)]


class Failure(Exception):
    """An answer that is made here."""

    def __init__(self, status: int, text: str, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(text)
        self.reply = HttpReply(status, [*PLAIN, *headers], text.encode())


def timed_out(request_id: str, timeout_s: float | None) -> Failure:
    """The answer for a request whose time is over."""
    after = "" if timeout_s is None else f" after {float(timeout_s)}s"
    return Failure(408, f"Request {request_id} timed out{after}.")


def failure_of(error: Exception) -> Failure:
    """The answer for an error of the way to a replica. An error of the user's code is an answer of the replica."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, Refused):
        return Failure(error.status, error.why)
    if isinstance(error, BackPressureError):
        return Failure(error.status_code, error.message, retry_after(error.retry_after_s))
    if isinstance(error, DeploymentUnavailableError):
        return Failure(503, error.message)
    if isinstance(error, ReplicaDiedError):
        return Failure(500, str(error))
    logger.error("A request failed", exc_info=error)
    return Failure(500, ERROR.decode())

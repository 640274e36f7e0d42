"""Requests of HTTP through a router: a whole answer, or a stream of which the beginning is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import hpc
from hpc import spi
from hpc.serve.calls.call import Call, is_death
from hpc.serve.exceptions import ReplicaDiedError
from hpc.serve.messages import HttpOpened, HttpReply, HttpRequest, RequestMeta, http_answer, packed_http

if TYPE_CHECKING:
    from hpc.serve.calls.ports import Routes

#: Methods of HTTP that may run twice (RFC 9110, 9.2.2).
IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"})
#: The body of a request that may be sent again is kept up to this length.
MAX_KEPT_BYTES = 1 << 20


def is_safe(request: HttpRequest) -> bool:
    """Whether a request of HTTP may run twice: by its method, or since the client says so."""
    if request.more or request.kind != "http" or len(request.body) > MAX_KEPT_BYTES:
        return False
    return is_repeatable(request.method, request.headers)


def is_repeatable(method: str, headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether a request with this head may run twice."""
    return method in IDEMPOTENT or any(name.lower() == b"idempotency-key" for name, _ in headers)


async def ask_http(router: Routes, meta: RequestMeta, request: HttpRequest) -> HttpReply | HttpStream:
    """See `Router.http`."""
    call = router.begin("http", meta, (packed_http(request),), {}, is_safe(request))
    router.submit(call)
    try:
        await call.settled()
    except BaseException:
        router.cancel(call)
        raise
    # What is in the store may be on another node: it is fetched while the loop goes on.
    is_large = call.error is None and spi.answer_of(call.ref) is True
    answer = http_answer(await call.ref if is_large else call.value())
    return HttpStream(router, call, answer) if type(answer) is HttpOpened else answer  # type: ignore[return-value]


def drop(router: Routes, call: Call) -> None:
    """Nobody reads an answer that has begun: its request was cancelled meanwhile (the router's lock is held)."""
    HttpStream(router, call, http_answer(call.value())).close()  # type: ignore[arg-type]


class HttpStream:
    """An answer of HTTP that goes on: ``status``, ``headers``, ``first``, and ``async for`` gives the rest in pieces.
    A reader that stops before its end calls `close`."""

    def __init__(self, router: Routes, call: Call, opened: HttpOpened) -> None:
        self.status = opened.status
        self.headers = opened.headers
        self.first = opened.first
        self._router = router
        self._call = call
        self._ident = opened.stream_id
        seat = call.seat
        if seat is None:  # its replica was given up meanwhile
            raise ReplicaDiedError(call.meta.request_id, str(router.deployment_id), "it says nothing")
        self._replica = router.replicas[seat.id]
        self._pieces: Any = self._replica.http_rest.remote(self._ident)
        self._is_open = True

    def __aiter__(self) -> HttpStream:
        return self

    async def __anext__(self) -> bytes:
        try:
            ref = await self._pieces.__anext__()
            piece: bytes = hpc.get(ref)
        except StopAsyncIteration:
            self._end()
            raise
        except BaseException as error:
            if is_death(error):
                self._end()
                name = str(self._router.deployment_id)
                raise ReplicaDiedError(self._call.meta.request_id, name, str(error)) from None
            self.close()
            raise
        return piece

    def close(self) -> None:
        """The client is gone: the code that makes the rest is cancelled. The call that reads it may be cancelled before
        it has begun, so the replica is told too."""
        if self._is_open:
            hpc.cancel(self._pieces)
            self._replica.http_drop.remote(self._ident)
            self._end()

    def _end(self) -> None:
        if self._is_open:
            self._is_open = False
            self._router.stream_ended(self._call)

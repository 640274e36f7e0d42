"""What a method of a deployment is given of a call by gRPC: the call's context, and the client's messages as a stream.

Names and methods are Ray Serve's. A context is a copy of what the server knows of the call. It travels to the replica,
and comes back with the answer: what the method has set holds for the call then. Nothing here needs grpcio.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Metadata = Sequence[tuple[str, str | bytes]]


class gRPCInputStream(AsyncIterator[T], Generic[T]):
    """The messages that a client sends in one call, for methods whose request is a stream: ``async for`` gives them."""

    def __init__(self, request_iterator: AsyncIterator[T], *, cancel_event: asyncio.Event | None = None) -> None:
        self._messages = request_iterator
        self._gone = cancel_event or asyncio.Event()
        self._exhausted = False

    def __aiter__(self) -> gRPCInputStream[T]:
        return self

    async def __anext__(self) -> T:
        if self._exhausted or self._gone.is_set():
            self._exhausted = True
            raise StopAsyncIteration
        try:
            return await self._messages.__anext__()
        except StopAsyncIteration:
            self._exhausted = True
            raise

    def is_cancelled(self) -> bool:
        """Whether the client has cancelled the call, or is gone."""
        return self._gone.is_set()

    def cancel(self) -> None:
        """Read no further message."""
        self._gone.set()

    @property
    def is_exhausted(self) -> bool:
        """Whether all messages were read."""
        return self._exhausted


class RayServegRPCContext:
    """A method with a parameter ``grpc_context`` is given this one. It has the methods of grpcio's ``ServicerContext``
    that read, and those that set the status code, its details, the compression and the trailing metadata."""

    def __init__(self, grpc_context: Any) -> None:
        self._auth_context: dict[str, Any] = grpc_context.auth_context()
        self._code = grpc_context.code()
        self._details = grpc_context.details()
        self._invocation_metadata = [(key, value) for key, value in grpc_context.invocation_metadata() or ()]
        self._peer: str = grpc_context.peer()
        self._peer_identities = grpc_context.peer_identities()
        self._peer_identity_key = grpc_context.peer_identity_key()
        self._trailing_metadata = [(key, value) for key, value in grpc_context.trailing_metadata() or ()]
        self._compression: Any = None
        #: Whether the method has set something that the server does not know yet.
        self._is_changed = False

    def auth_context(self) -> dict[str, Any]:
        """What is known of the client by TLS: names, and their values."""
        return self._auth_context

    def code(self) -> Any:
        """The status code that was set: a ``grpc.StatusCode``; 0 where none was."""
        return self._code

    def details(self) -> str:
        """The words beside the status code that were set."""
        found: str = self._details
        return found

    def invocation_metadata(self) -> list[tuple[str, Any]]:
        """The client's metadata."""
        return self._invocation_metadata

    def peer(self) -> str:
        """The client, as gRPC names it: ``ipv4:127.0.0.1:40322``."""
        return self._peer

    def peer_identities(self) -> Any:
        """The identities that TLS has proved; None where it has none."""
        return self._peer_identities

    def peer_identity_key(self) -> str | None:
        """Under which name of `auth_context` these are."""
        found: str | None = self._peer_identity_key
        return found

    def trailing_metadata(self) -> list[tuple[str, Any]]:
        """The metadata that goes behind the answer."""
        return self._trailing_metadata

    def request_id(self) -> str | None:
        """The id that the client has given the request."""
        return self._given("request_id")

    def application(self) -> str | None:
        """The application that the client has named."""
        return self._given("application")

    def multiplexed_model_id(self) -> str | None:
        """The model that the client wants."""
        return self._given("multiplexed_model_id")

    def traceparent(self) -> str | None:
        """The client's span, as W3C writes it."""
        return self._given("traceparent")

    def tracestate(self) -> str | None:
        """What tracing systems add to it."""
        return self._given("tracestate")

    def _given(self, name: str) -> str | None:
        found: str | None = next((value for key, value in reversed(self._invocation_metadata) if key == name), None)
        return found

    def set_code(self, code: Any) -> None:
        """Set the status code, a ``grpc.StatusCode``. A method that raises afterwards has this status."""
        self._code = code
        self._is_changed = True

    def set_details(self, details: str) -> None:
        """Set the words beside it."""
        self._details = details
        self._is_changed = True

    def set_compression(self, compression: Any) -> None:
        """Set how the answer is compressed, a ``grpc.Compression``."""
        self._compression = compression
        self._is_changed = True

    def set_trailing_metadata(self, trailing_metadata: Metadata) -> None:
        """Set the metadata behind the answer. The id of the request stays among them."""
        kept = [pair for pair in self._trailing_metadata if pair[0] == "request_id"]
        self._trailing_metadata = [*kept[:1], *trailing_metadata]
        self._is_changed = True

    def _changes(self) -> RayServegRPCContext | None:
        """Itself where the method has set something since this was asked last."""
        is_changed, self._is_changed = self._is_changed, False
        return self if is_changed else None

    def _set_on_grpc_context(self, grpc_context: Any) -> None:
        """Have all that was set hold for a call of grpcio."""
        if self._code:
            grpc_context.set_code(self._code)
        if self._details:
            grpc_context.set_details(self._details)
        if self._compression:
            grpc_context.set_compression(self._compression)
        if self._trailing_metadata:
            grpc_context.set_trailing_metadata(tuple(self._trailing_metadata))

"""A call by gRPC in the replica: the method gets the client's message, and its answer goes back as bytes."""

from __future__ import annotations

import asyncio
import inspect
import secrets
from collections.abc import AsyncIterator, Callable
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from hpc.serve.calls.servable import Servable
from hpc.serve.context import current_request
from hpc.serve.exceptions import gRPCStatusError
from hpc.serve.grpc_util import RayServegRPCContext, gRPCInputStream

#: The parameter of a method that gets the context.
CONTEXT = "grpc_context"
#: The context where the method has set something on it, and the answer or a part of it, serialized. Behind the last
#: part of a stream there may be a context alone.
Answer = tuple[RayServegRPCContext | None, bytes | None]


class InputSource(NamedTuple):
    """Where a replica has the client's messages from: the proxy that has the call, and the number of the call there."""

    proxy: Any
    key: int

    def messages(self, gone: asyncio.Event) -> InputMessages:
        """One after the other. Sets ``gone`` when the client has cancelled the call."""
        return InputMessages(self, gone)


class InputMessages(AsyncIterator[Any]):
    """The messages of a client's stream. A reader that waits no longer, as it has a limit of time, loses none."""

    def __init__(self, source: InputSource, gone: asyncio.Event) -> None:
        self._source, self._gone = source, gone
        #: Another run of the method must not go on where this one has ended.
        self._reader = secrets.token_hex(8)
        self._asked: asyncio.Future[Any] | None = None
        self._is_over = False

    async def __anext__(self) -> Any:
        if self._is_over:
            raise StopAsyncIteration
        if self._asked is None:
            self._asked = asyncio.ensure_future(self._ask())
            self._asked.add_done_callback(_nobody_waits)
        asked = self._asked
        try:
            is_there, message = await asyncio.shield(asked)
        except asyncio.CancelledError:  # of the reader: the message may have come in the same turn of the loop
            if asked.cancelled():
                self._asked = None
            raise
        except BaseException:
            self._asked = None
            raise
        self._asked = None
        if is_there:
            return message
        self._is_over = True
        if is_there is None:
            self._gone.set()
        raise StopAsyncIteration

    async def _ask(self) -> Any:
        return await self._source.proxy.next_message.remote(self._source.key, self._reader)


def _nobody_waits(asked: asyncio.Future[Any]) -> None:
    """What goes wrong is no news where the method has ended."""
    if not asked.cancelled():
        asked.exception()


class RemoteCall(NamedTuple):
    """What a replica is given: the context, and the client's message, or a source of its messages."""

    context: RayServegRPCContext
    message: Any
    source: InputSource | None = None


async def value(servable: Servable, name: str, call: RemoteCall) -> Answer:
    """Run a method that answers once. Raises what it raises; `gRPCStatusError` where it had set a status code."""
    args, kwargs = _begin(servable, name, call)
    try:
        made = await servable.call(name, args, kwargs)
    except Exception as error:
        _raise(error, call.context)
    data = made.SerializeToString()
    return call.context._changes(), data


async def items(servable: Servable, name: str, call: RemoteCall) -> AsyncIterator[Answer]:
    """Run a method that answers by a stream."""
    args, kwargs = _begin(servable, name, call)
    made: Any = servable.items(name, args, kwargs)
    try:
        async for item in made:
            data = item.SerializeToString()
            yield call.context._changes(), data
        if (left := call.context._changes()) is not None:  # behind the last item, or where there is none
            yield left, None
    except Exception as error:
        _raise(error, call.context)
    finally:
        await made.aclose()


def _begin(servable: Servable, name: str, call: RemoteCall) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of the method. From here on its code knows the context."""
    current_request.set(msgspec.structs.replace(current_request.get(), grpc_context=call.context))
    given = call.message
    if call.source is not None:
        gone = asyncio.Event()
        given = gRPCInputStream(call.source.messages(gone), cancel_event=gone)
    takes = _takes_context(servable.method(name).call)
    return (given,), {CONTEXT: call.context} if takes else {}


@lru_cache(maxsize=512)
def _takes_context(function: Callable[..., Any]) -> bool:
    return CONTEXT in inspect.signature(function).parameters


def _raise(error: Exception, context: RayServegRPCContext) -> None:
    if context.code():
        trailing = tuple(context.trailing_metadata())
        raise gRPCStatusError(error, context.code(), context.details(), trailing) from error
    raise error

"""A call by gRPC in the replica: the method gets the client's message, and its answer goes back as bytes."""

from __future__ import annotations

import asyncio
import inspect
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
#: The context as the method has left it, and the answer or a part of it, serialized.
Answer = tuple[RayServegRPCContext, bytes]


class InputSource(NamedTuple):
    """Where a replica has the client's messages from: the proxy that has the call, and the number of the call there."""

    proxy: Any
    key: int

    async def messages(self, gone: asyncio.Event) -> AsyncIterator[Any]:
        """One after the other. Sets ``gone`` when the client has cancelled the call."""
        while True:
            is_there, message = await self.proxy.next_message.remote(self.key)
            if is_there:
                yield message
                continue
            if is_there is None:
                gone.set()
            return


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
    return call.context, made.SerializeToString()


async def items(servable: Servable, name: str, call: RemoteCall) -> AsyncIterator[Answer]:
    """Run a method that answers by a stream."""
    args, kwargs = _begin(servable, name, call)
    made: Any = servable.items(name, args, kwargs)
    try:
        async for item in made:
            yield call.context, item.SerializeToString()
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
        raise gRPCStatusError(error, context.code(), context.details()) from error
    raise error

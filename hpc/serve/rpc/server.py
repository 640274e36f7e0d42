"""The server of gRPC in a proxy: each call is one call of a replica, on the event loop that the doors of HTTP have.

The socket lies in the node's directory, which only its user can enter. A port of TCP is open where one was asked for,
on this machine alone unless `HTTPOptions.host` says more. Keys, limits of requests and certificates are those of HTTP.
Codes and texts are Ray Serve's.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import logging
import os
import random
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import grpc
import grpc.aio

from hpc import spi
from hpc.serve.calls.call import Call, Kind
from hpc.serve.calls.remote_calls import InputSource, RemoteCall
from hpc.serve.calls.routing import Router
from hpc.serve.canary import choose
from hpc.serve.context import new_request_id
from hpc.serve.door_options import HTTPOptions, gRPCOptions, is_unsaid
from hpc.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
    gRPCStatusError,
)
from hpc.serve.grpc_util import RayServegRPCContext
from hpc.serve.http import door
from hpc.serve.http.accesslog import AccessLog
from hpc.serve.http.gate import Bucket, Keys
from hpc.serve.http.numbers import grpc_numbers
from hpc.serve.http.routes import ingress_of, sticky_key
from hpc.serve.messages import DeploymentID, RequestMeta, RouteRow, RouteTable
from hpc.serve.policies import imported
from hpc.serve.rpc.services import HEALTHZ, LIST_APPLICATIONS, Services, strings

logger = logging.getLogger("hpc.serve")
Code = grpc.StatusCode

SOCKET = "grpc.sock"
HEALTHY = "success"
#: Details of a status travel as a header, which has a limit.
MOST_DETAILS = 4096
CUT = "... [truncated]"
_MAKERS = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


class Host(Protocol):
    """The proxy, as far as its server of gRPC knows it."""

    @property
    def table(self) -> RouteTable: ...
    def router_of(self, deployment: DeploymentID) -> Router: ...
    def why_not_ready(self) -> str: ...
    def count(self, app: str, is_error: bool, latency_s: float) -> None: ...


class Status(NamedTuple):
    """How a call ends for its client. ``trailing``: what its method has set behind the answer."""

    code: Any
    text: str
    trailing: tuple[tuple[str, Any], ...] = ()


class Refused(Exception):
    """A call that no replica gets."""

    def __init__(self, code: Any, text: str) -> None:
        super().__init__(text)
        self.status = Status(code, text)


class Given(NamedTuple):
    """What a client has sent: the bytes of a message, or an iterator over those of several. ``read``: makes a message
    of bytes."""

    what: Any
    is_stream: bool
    read: Callable[[bytes], Any]

    def message(self) -> Any:
        """The only message. Raises Refused where it cannot be read."""
        try:
            return self.read(self.what)
        except Exception as error:
            raise Refused(Code.INTERNAL, f"the message cannot be read: {type(error).__name__}: {error}") from None


class Messages:
    """The messages of a client's stream, for one reader."""

    def __init__(self, given: Given) -> None:
        self._given = given
        self._bytes: AsyncIterator[bytes] = aiter(given.what)
        self._reader = ""

    async def next(self, reader: str) -> tuple[bool | None, Any]:
        """See `GrpcServer.next_message`."""
        self._reader = self._reader or reader
        if self._reader != reader:
            raise RayServeException(
                "the replica that had this call has died, and the messages that it has read are gone: call again"
            )
        try:
            data = await self._bytes.__anext__()
        except StopAsyncIteration:
            return False, None
        except (Exception, asyncio.CancelledError) as error:  # grpcio cancels the reader where the client has gone
            logger.debug("the messages of a call have ended early: %r", error)
            return None, None
        try:
            return True, self._given.read(data)
        except Exception as error:
            raise RayServeException(f"a message cannot be read: {type(error).__name__}: {error}") from None


class Asked:
    """A call on its way: what its metadata say, and what becomes of it."""

    def __init__(self, method: str, context: Any, timeout_s: float | None) -> None:
        self.began = time.monotonic()
        self.method = method
        self.context = context
        self.metadata: dict[str, Any] = dict(context.invocation_metadata() or ())
        given = self.text("request_id")  # it goes back behind the answer, where other characters would break that
        self.request_id = given if given and given.isascii() and given.isprintable() else new_request_id()
        self.session_id = self.text("session_id")
        self.timeout_s = timeout_s
        self.is_late = False
        self.code = Code.OK
        self.row: RouteRow | None = None
        self.app = ""
        self.key = 0
        context.set_trailing_metadata((("request_id", self.request_id),))

    def took(self, left: RayServegRPCContext | None) -> None:
        """Have what the method has set on its context hold for the call. None: it has set nothing new."""
        if left is not None:
            left._set_on_grpc_context(self.context)
            self.code = left.code() or Code.OK

    def text(self, name: str) -> str:
        """A value of the metadata; empty where it is not there, or no text."""
        found = self.metadata.get(name, "")
        return found if isinstance(found, str) else ""

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The metadata as a request of HTTP has them."""
        return [
            (key.encode(), value if isinstance(value, bytes) else value.encode())
            for key, value in self.metadata.items()
        ]


class GrpcServer(grpc.GenericRpcHandler):  # type: ignore[misc]
    """The server of one proxy, whose actor is ``actor``."""

    def __init__(self, host: Host, actor: Any, options: gRPCOptions, http: HTTPOptions, keys: Keys | None) -> None:
        self._host = host
        self._actor = actor
        self._options = options
        self._http = http
        self._keys = keys
        self._services = Services([imported(path) for path in options.grpc_servicer_functions])
        self._server: Any = None
        self._path = ""
        self._inputs: dict[int, Messages] = {}
        self._numbers = itertools.count(secrets.randbits(60) + 1)
        self._random = random.Random()
        self._log = AccessLog()
        self._counts = grpc_numbers()
        timeout = options.request_timeout_s
        self._timeout_s = timeout if timeout is None or timeout > 0 else None

    # -------------------------------------------------------------- its life

    async def start(self, directory: str) -> list[str]:
        """Open the doors, and say where they are. Raises DoorError."""
        # A port that two processes may share could be another user's as well.
        length = -1 if self._http.max_body_bytes is None else self._http.max_body_bytes
        options = [
            ("grpc.so_reuseport", 0), ("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", length),
        ]  # fmt: skip
        gate = Gate(self._keys, self._http.rate_limit_per_s)
        server = self._server = grpc.aio.server(handlers=[self], interceptors=[gate], options=options)
        if self._options.enable_reflection:
            from grpc_reflection.v1alpha import reflection

            reflection.enable_server_reflection([*self._services.names(), reflection.SERVICE_NAME], server)
        try:
            doors = [self._listen_unix(directory)]
            if self._options.is_tcp:
                doors.append(await self._listen_tcp())
        except BaseException:
            await self.stop(0.0)
            raise
        await server.start()
        return doors

    def _listen_unix(self, directory: str) -> str:
        door.socket_path(directory)  # which is the user's alone
        self._path = str(Path(directory) / SOCKET)
        door.clear(self._path)
        before = os.umask(0o177)
        try:
            self._server.add_insecure_port(f"unix:{self._path}")
        except RuntimeError as error:
            raise door.DoorError(f"{self._path} cannot be listened at for gRPC: {error}") from None
        finally:
            os.umask(before)
        return f"grpc+unix:{self._path}"

    async def _listen_tcp(self) -> str:
        host, port = self._http.host, self._options.port
        if host is None or is_unsaid(host):
            host = "127.0.0.1"
        where = _bracketed(host)
        credentials = _credentials(self._http)
        try:
            if credentials is None:
                found = self._server.add_insecure_port(f"{where}:{port}")
            else:
                found = self._server.add_secure_port(f"{where}:{port}", credentials)
        except RuntimeError as error:
            raise door.DoorError(
                f"port {port} of {host} cannot be listened at for gRPC: {error}; 0 takes a free one"
            ) from None
        if host in door.ALL_ADDRESSES:
            where = _bracketed(await asyncio.to_thread(door.reachable_name))
        return f"{'grpcs' if credentials else 'grpc'}://{where}:{found}"

    async def stop(self, timeout_s: float) -> None:
        """Take no call any more, and answer those that run, for this time at most."""
        if self._server is not None:
            await self._server.stop(timeout_s)
            door.clear(self._path)

    async def next_message(self, key: int, reader: str) -> tuple[bool | None, Any]:
        """For the replica that has a call: whether the client has sent a further message, and this. None: it is gone.

        Raises what is wrong with a message, and RayServeException for the second ``reader``: the first one has read
        messages that nobody has any more."""
        messages = self._inputs.get(key)
        return (None, None) if messages is None else await messages.next(reader)

    # -------------------------------------------------------------- which method

    def service(self, handler_call_details: Any) -> Any:
        """How a call is answered, by its method; None where there is none such."""
        method = handler_call_details.method
        if method == HEALTHZ:
            return grpc.unary_unary_rpc_method_handler(self._healthz)
        if method == LIST_APPLICATIONS:
            return grpc.unary_unary_rpc_method_handler(self._list_applications)
        found = self._services.find(handler_call_details)
        if found is None:
            return None
        name, read = method.rpartition("/")[2], found.request_deserializer or _as_it_is
        streams_in = bool(found.request_streaming)

        async def answer(given: Any, context: Any) -> bytes:
            return await self._value(Asked(name, context, self._timeout_s), Given(given, streams_in, read))

        async def stream(given: Any, context: Any) -> None:  # it writes: a generator that is left ends who knows when
            await self._items(Asked(name, context, self._timeout_s), Given(given, streams_in, read))

        handler = stream if found.response_streaming else answer
        return _MAKERS[streams_in, bool(found.response_streaming)](handler, None, None)

    async def _healthz(self, _: bytes, context: Any) -> bytes:
        why = self._host.why_not_ready()
        if why:
            context.set_code(Code.UNAVAILABLE)
            context.set_details(why)
        return strings(why or HEALTHY)

    async def _list_applications(self, _: bytes, context: Any) -> bytes:
        why = self._host.why_not_ready()
        if why:
            context.set_code(Code.UNAVAILABLE)
            context.set_details(why)
        return strings(*sorted({row.app for row in self._host.table.rows}))

    # -------------------------------------------------------------- a call

    async def _value(self, asked: Asked, given: Given) -> bytes:
        async with self._told(asked):
            call = await self._begin("call", asked, given)
            # What is in the store may be on another node: it is fetched while the loop goes on.
            left, data = await call.ref if spi.answer_of(call.ref) is True else call.value()
            asked.took(left)
        found: bytes = data
        return found

    async def _items(self, asked: Asked, given: Given) -> None:
        async with self._told(asked):
            call = await self._begin("stream", asked, given)
            try:
                while True:
                    try:
                        left, data = await call.next_item()
                    except StopAsyncIteration:
                        break
                    asked.took(left)
                    if data is not None:
                        await asked.context.write(data)
            except BaseException:
                call.router.cancel(call)
                raise

    async def _begin(self, kind: Kind, asked: Asked, given: Given) -> Call:
        """The call of a replica, once there is an answer, or a stream has begun. Raises what there is instead."""
        row = asked.row = self._row(asked.text("application"))
        asked.app = row.app
        if row.split:
            key = sticky_key(row, asked.headers(), asked.session_id) if row.sticky else None
            asked.app = choose(row.split, key, self._random.random())
        context = RayServegRPCContext(asked.context)
        message = source = None
        if given.is_stream:
            asked.key = next(self._numbers)
            self._inputs[asked.key] = Messages(given)
            source = InputSource(self._actor, asked.key)
        else:
            message = given.message()
        router = self._host.router_of(DeploymentID(ingress_of(row, asked.app), asked.app))
        meta = RequestMeta(
            asked.request_id, asked.method, row.prefix, asked.app, asked.text("multiplexed_model_id"),
            asked.session_id, asked.timeout_s, False, kind == "stream", trace=asked.text("traceparent"), is_grpc=True,
        )  # fmt: skip
        call = router.begin(kind, meta, (RemoteCall(context, message, source),), {})
        router.submit(call)
        try:
            await call.settled()
        except BaseException:
            router.cancel(call)
            raise
        if call.error is not None:
            raise call.error
        return call

    def _row(self, application: str) -> RouteRow:
        """The application that is meant: the only one, or that of this name. Raises Refused."""
        rows = self._host.table.rows
        for row in rows:
            if row.app == application or len(rows) == 1:
                return row
        missing = f"Application '{application}' not found." if application else "Application metadata not set."
        raise Refused(Code.NOT_FOUND, f"{missing} Ping {LIST_APPLICATIONS} for available applications.")

    @asynccontextmanager
    async def _told(self, asked: Asked) -> AsyncIterator[None]:
        """Tell the client what goes wrong inside, as a status, and note how the call has ended."""
        timer = None if asked.timeout_s is None else _timer(asked, asked.timeout_s)
        try:
            yield
        except asyncio.CancelledError:
            if not asked.is_late:
                asked.code = Code.CANCELLED
                raise
            await self._abort(asked, Status(Code.DEADLINE_EXCEEDED, _late(asked.timeout_s)))
        except Exception as error:
            await self._abort(asked, status_of(error, asked.timeout_s))
        finally:
            if timer is not None:
                timer.cancel()
            self._inputs.pop(asked.key, None)
            self._note(asked)

    async def _abort(self, asked: Asked, status: Status) -> None:
        asked.code = status.code
        if status.trailing:
            asked.context.set_trailing_metadata(status.trailing)
        await asked.context.abort(status.code, _short(status.text), tuple(asked.context.trailing_metadata()))

    def _note(self, asked: Asked) -> None:
        latency_s, row = time.monotonic() - asked.began, asked.row
        number = _number(asked.code)
        if row is not None and (row.split or row.shadow):
            self._host.count(asked.app, number in _FAULTS, latency_s)
        self._counts.note(row, asked.app, asked.method, number, latency_s)
        self._log.note("GRPC", asked.method, row, number, latency_s, asked.request_id)


#: What counts as a fault of the service where a canary is watched.
_FAULTS = frozenset(
    code.value[0]
    for code in (Code.INTERNAL, Code.UNKNOWN, Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED)
)


def _number(code: Any) -> int:
    """The number of a status code. Methods may set anything; grpcio sends what is none as UNKNOWN."""
    number = code.value[0] if isinstance(code, Code) else code
    unknown: int = Code.UNKNOWN.value[0]
    return number if isinstance(number, int) else unknown


class Gate(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Looks at each call before its method does. With keys a call has one, but that for the health of the service."""

    def __init__(self, keys: Keys | None, rate: float | None) -> None:
        self._keys = keys
        self._bucket = Bucket(rate) if rate else None

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """The method that is called, or one that refuses."""
        client = None
        if self._keys is not None and handler_call_details.method != HEALTHZ:
            client = self._keys.knows(presented_key(handler_call_details.invocation_metadata or ()))
            if client is None:
                return _refusing(Code.UNAUTHENTICATED, "a key is needed, as metadata: authorization: Bearer KEY")
        if self._bucket is None:
            return await continuation(handler_call_details)
        if client is None:  # the address is known to the method only
            return self._limited(await continuation(handler_call_details), self._bucket)
        if self._bucket.take(client, time.monotonic()):
            return await continuation(handler_call_details)
        return _refusing(*TOO_MANY)

    def _limited(self, found: Any, bucket: Bucket) -> Any:
        """The same method for clients that are known by their addresses: each has its own number of requests."""
        if found is None:
            return None
        kinds = bool(found.request_streaming), bool(found.response_streaming)
        behaviour = getattr(found, "_".join("stream" if is_stream else "unary" for is_stream in kinds))

        async def admitted(context: Any) -> None:
            if not bucket.take(context.peer().rpartition(":")[0], time.monotonic()):
                await context.abort(*TOO_MANY)

        async def answer(given: Any, context: Any) -> Any:
            await admitted(context)
            return await behaviour(given, context)

        async def stream(given: Any, context: Any) -> AsyncIterator[Any]:
            await admitted(context)
            async for item in behaviour(given, context):
                yield item

        wrapped = stream if inspect.isasyncgenfunction(behaviour) else answer
        return _MAKERS[kinds](wrapped, found.request_deserializer, found.response_serializer)


TOO_MANY = Code.RESOURCE_EXHAUSTED, "there are too many requests: come again in a second"


def _refusing(code: Any, text: str) -> Any:
    """A method that refuses. It reads no message of the client: one of any size may come, or none for long."""

    async def refuse(_: Any, context: Any) -> None:
        await context.abort(code, text)

    return grpc.stream_stream_rpc_method_handler(refuse)


def presented_key(metadata: Any) -> bytes:
    """The key of a call: ``authorization: Bearer KEY``, or ``x-api-key: KEY``. Empty where there is none."""
    for key, value in metadata:
        data = value.encode() if isinstance(value, str) else bytes(value)
        if key == "authorization" and data[:7].lower() == b"bearer ":
            return data[7:].strip()
        if key == "x-api-key":
            return data
    return b""


def status_of(error: Exception, timeout_s: float | None) -> Status:
    """The status of a call that has failed."""
    if isinstance(error, Refused):
        return error.status
    if isinstance(error, TimeoutError):
        return Status(Code.DEADLINE_EXCEEDED, _late(timeout_s))
    if isinstance(error, BackPressureError):
        return Status(Code.RESOURCE_EXHAUSTED, error.message)
    if isinstance(error, DeploymentUnavailableError):
        return Status(Code.UNAVAILABLE, error.message)
    if isinstance(error, gRPCStatusError) and _number(error.grpc_code) != 0:
        logger.warning("A request failed: %s", error.original_exception)
        return Status(error.grpc_code, error.grpc_details or str(error.original_exception), error.trailing_metadata)
    logger.warning("A request failed: %s", error)
    return Status(Code.INTERNAL, str(error))


def _as_it_is(data: bytes) -> bytes:
    """What a method without a type of messages gets."""
    return data


def _late(timeout_s: float | None) -> str:
    return "Request timed out." if timeout_s is None else f"Request timed out after {timeout_s}s."


def _short(text: str) -> str:
    return text if len(text) <= MOST_DETAILS else text[: MOST_DETAILS - len(CUT)] + CUT


def _timer(asked: Asked, timeout_s: float) -> asyncio.TimerHandle:
    task = asyncio.current_task()

    def over() -> None:
        asked.is_late = True
        if task is not None:
            task.cancel()

    return asyncio.get_running_loop().call_later(timeout_s, over)


def _bracketed(host: str) -> str:
    """A host as it stands before a port."""
    return f"[{host}]" if ":" in host else host


def _credentials(options: HTTPOptions) -> Any:
    """TLS by the certificate and key of HTTP; None where there are none. Raises DoorError."""
    if not options.ssl_certfile or not options.ssl_keyfile:
        return None
    if options.ssl_keyfile_password:
        raise door.DoorError("gRPC reads no key with a password: give a key file without one, that is yours alone")
    try:
        key, certificate = Path(options.ssl_keyfile).read_bytes(), Path(options.ssl_certfile).read_bytes()
        trusted = Path(options.ssl_ca_certs).read_bytes() if options.ssl_ca_certs else None
    except OSError as error:
        raise door.DoorError(f"TLS cannot be used for gRPC: {error}") from None
    return grpc.ssl_server_credentials([(key, certificate)], trusted, trusted is not None)

"""The proxy of a node: an actor whose event loop has the doors, and sends each request to a replica.

One request is one call of a replica's actor, on the loop that has read it: no thread hands anything over. Routes come
from the head's keys, so the controller may be gone. Codes, texts and headers are Ray Serve's.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import pickle
import random
import secrets
import time
from typing import Any, Literal

import hpc
from hpc import spi
from hpc.serve.calls.asking import HttpStream
from hpc.serve.calls.routers import router_of
from hpc.serve.calls.routing import Router
from hpc.serve.canary import Outcomes, choose
from hpc.serve.context import controller, new_request_id
from hpc.serve.exceptions import BackPressureError, DeploymentUnavailableError
from hpc.serve.http import door
from hpc.serve.http.accesslog import AccessLog
from hpc.serve.http.asgi import BYTES, CLOSE, TEXT, frames
from hpc.serve.http.convert import to_json
from hpc.serve.http.exchange import ClientGone, Exchange
from hpc.serve.http.failures import PLAIN, Failure, failure_of, timed_out
from hpc.serve.http.gate import Gate, KeyFileError, Keys, Names
from hpc.serve.http.head import Head
from hpc.serve.http.lending import Fixed, Lending
from hpc.serve.http.numbers import http_numbers
from hpc.serve.http.routes import Routes, ingress_of, plain_path, sticky_key
from hpc.serve.http.server import Connection, Limits, Server
from hpc.serve.http.websocket import Socket
from hpc.serve.messages import (
    NAMESPACE,
    ROUTES_KEY,
    DeploymentID,
    HttpReply,
    HttpRequest,
    ProxyLoad,
    RequestMeta,
    RouteRow,
    RouteTable,
    decoded,
)

logger = logging.getLogger("hpc.serve")

NO_ROUTES = "Route table is not populated yet."
NO_REPLICAS = "No replicas are available yet."
DRAINING = "This node is being drained."
#: How often keys are read again, and outcomes are told for canaries.
LOOK_S = 1.0
#: While a proxy drains, others must have seen that it does before it takes no connection any more.
DRAIN_S = 30.0
#: Copies for shadows that are under way, and bytes of their bodies. What is beyond that is not copied.
MOST_COPIES = 500
COPIED_BYTES = 64 << 20


class Source:
    """What a replica pulls of a proxy: the further events of one request. It is pickled into the request."""

    def __init__(self, actor: Any, key: int) -> None:
        self._actor = actor
        self._key = key

    @property
    def receive(self) -> Source:
        """Itself, so that it is called as a method of an actor is."""
        return self

    def remote(self, request_id: str) -> Any:
        """A reference to the next event."""
        return self._actor.receive.remote(self._key)


class Asked:
    """A request on its way: what is known of it for routing, the log and its end."""

    __slots__ = (
        "app",
        "began",
        "disconnects",
        "has_failed",
        "has_said",
        "is_late",
        "model_id",
        "request_id",
        "row",
        "session_id",
        "timeout_s",
        "timer",
        "trace",
    )

    def __init__(self, head: Head, timeout_s: float | None) -> None:
        self.began = time.monotonic()
        self.row: RouteRow | None = None
        self.app = ""
        self.timeout_s = timeout_s
        self.has_said = self.has_failed = False
        self.request_id = self.model_id = self.session_id = self.trace = ""
        self.disconnects = True
        self.is_late = False
        self.timer: asyncio.TimerHandle | None = None
        for name, value in head.headers:
            first = name[:1]
            if first not in b"xst":  # all that are looked for begin so
                continue
            if name == b"x-request-id":
                self.request_id = value.decode("latin-1")
            elif name in (b"serve_multiplexed_model_id", b"serve-multiplexed-model-id"):
                self.model_id = value.decode("latin-1")
            elif name in (b"x-session-id", b"x_session_id", b"session_id", b"session-id"):
                self.session_id = value.decode("latin-1")
            elif name == b"x-request-timeout-seconds":
                self._read_timeout(value)
            elif name == b"x-request-disconnect-disabled":
                self.disconnects = value != b"?1"
            elif name == b"traceparent":
                self.trace = value.decode("latin-1")

    def _read_timeout(self, value: bytes) -> None:
        """The client says how long it waits; 0 and less is for ever."""
        try:
            seconds = float(value)
        except ValueError:
            return
        self.timeout_s, self.has_said = (seconds if seconds > 0 else None), True


class Proxy:
    """The actor. ``node``: its node. ``http_options``: `hpc.serve.door_options.HTTPOptions`."""

    def __init__(self, node: str, http_options: Any, grpc_options: Any = None) -> None:
        self._node = node
        self._options = http_options
        self._grpc_options = grpc_options
        self._grpc: Any = None
        self._routes = Routes(RouteTable(0))
        self._routers: dict[DeploymentID, Router] = {}
        self._sources: dict[int, Exchange | Socket] = {}
        # A proxy that was started again shall not know the numbers of the one before it: replicas pull by them still.
        self._numbers = itertools.count(secrets.randbits(60) + 1)
        self._outcomes: dict[str, Outcomes] = {}
        self._random = random.Random()
        self._log = AccessLog()
        self._counts = http_numbers()
        self._doors: list[str] = []
        self._server: Server | None = None
        self._actor: Any = None
        self._keys: Keys | None = None
        self._lending: Lending | None = None
        self._tasks: list[asyncio.Task[Any]] = []
        self._shadows: set[asyncio.Task[Any]] = set()
        self._copied = 0
        self._leaves_out = False
        self._is_draining = self._has_queued = False
        self._opening = asyncio.Lock()
        timeout = http_options.request_timeout_s
        self._timeout_s = timeout if timeout is None or timeout > 0 else None

    # -------------------------------------------------------------- its life

    async def begin(self) -> list[str]:
        """Open the doors; where they are open, say where. Raises DoorError, KeyFileError and OSError."""
        async with self._opening:
            if not self._doors:
                try:
                    await self._open()
                except BaseException:  # no door is open unless all are
                    if self._server is not None:
                        await self._server.close()
                        self._server = None
                    raise
        return self._doors

    async def _open(self) -> None:
        options = self._options
        self._actor = hpc.get_runtime_context().current_actor
        limits = Limits(idle_s=options.keep_alive_timeout_s, body_bytes=options.max_body_bytes)
        self._server = Server(self._answer, self._speak, limits)
        self._keys = Keys(options.api_keys_file) if options.api_keys_file else None
        names = {*door.machine_names(), *options.allowed_hosts, *([options.host] if options.host else [])}
        gate = Gate(Names(names), self._keys, options.rate_limit_per_s)

        def admit(head: Head, connection: Connection) -> None:
            gate.admit(head, connection.client and connection.client[0], time.monotonic())

        routes = await asyncio.to_thread(spi.kv_get, NAMESPACE, ROUTES_KEY)
        if routes is not None:  # before the door is open: a proxy that takes another's place answers no 404
            self._take_routes(decoded(RouteTable, routes))
        path = door.socket_path(spi.own_directory())
        if self._keys is None and not options.rate_limit_per_s and self._timeout_s is None:
            fixed = Fixed(sorted(map(str, names)), options.root_path.rstrip("/"), limits)
            self._lending = Lending(self, fixed, spi.own_directory())
            self._server.at_rest = self._lending.at_rest
        await self._server.listen_unix(door.bound(path), admit)
        doors = [f"unix:{path}"]
        if options.is_tcp:
            tls = door.tls_context(options)
            try:
                port = await self._server.listen_tcp(options.host, options.port, admit, tls)
            except OSError as error:
                raise door.DoorError(
                    f"port {options.port} of {options.host} cannot be listened at: {error.strerror}; 0 takes a free one"
                ) from None
            host = options.host
            if host in door.ALL_ADDRESSES:
                host = await asyncio.to_thread(door.reachable_name)
            doors.append(f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}")
        if self._grpc_options is not None and self._grpc_options.grpc_servicer_functions:
            from hpc.serve.rpc.server import GrpcServer

            self._grpc = GrpcServer(self, self._actor, self._grpc_options, options, self._keys)
            doors += await self._grpc.start(spi.own_directory())
        self._tasks = [asyncio.ensure_future(self._watch()), asyncio.ensure_future(self._look())]
        self._doors = doors

    async def check_health(self) -> bool:
        """Whether it serves."""
        return self._server is not None and not self._server.is_draining

    async def until_end(self) -> None:
        """Never return: the call breaks when the actor dies."""
        await asyncio.Event().wait()

    async def drain(self, timeout_s: float = DRAIN_S, notice_s: float = 0.0) -> bool:
        """Take nothing new and answer what runs. /-/healthz says so for ``notice_s`` seconds before that. Returns
        whether all was answered in ``timeout_s``."""
        self._is_draining = True
        if self._server is None:
            return True
        await asyncio.sleep(notice_s)
        if self._lending is not None:
            self._lending.close()
        stopping = [] if self._grpc is None else [self._grpc.stop(timeout_s)]
        draining = asyncio.gather(self._server.drain(timeout_s), *stopping)
        is_empty: bool = (await draining)[0]
        for task in self._tasks:
            task.cancel()
        door.clear(door.socket_path(spi.own_directory()))
        return is_empty

    async def _watch(self) -> None:
        """Follow the routes."""
        with spi.watch(NAMESPACE, ROUTES_KEY) as watch:
            async for changes in watch:
                for change in changes:
                    self._take_routes(RouteTable(0) if change.value is None else decoded(RouteTable, change.value))

    def _take_routes(self, table: RouteTable) -> None:
        self._routes = Routes(table)
        wanted = set()
        for row in self._routes.rows():
            for app in {row.app, row.shadow, *(app for app, _ in row.split)} - {""}:
                wanted.add(DeploymentID(ingress_of(row, app), app))
        for deployment in wanted - set(self._routers):
            self._routers[deployment] = router_of(deployment, prefers_node=True)
        for deployment in set(self._routers) - wanted:
            del self._routers[deployment]
        if self._lending is not None:
            self._lending.routes_changed()

    async def _look(self) -> None:
        """Read the keys again where they have changed, and tell the controller how canaries do."""
        while True:
            await asyncio.sleep(LOOK_S)
            if self._keys is not None:
                try:
                    self._keys.read()
                except KeyFileError as error:
                    self._keys.close()
                    logger.error("Nobody is let in: %s", error)
            if self._lending is not None:
                self._lending.look()
            self._tell_queued()
            told = [one for one in (outcomes.take() for outcomes in self._outcomes.values()) if one is not None]
            if told:
                try:
                    controller().note_outcomes.remote(told)
                except Exception as error:
                    logger.warning("The outcomes of a split are told to nobody: %s", error)

    def _tell_queued(self) -> None:
        """Tell the controller how many requests wait, while any do, and when none does any more."""
        rows = {f"{one.app_name}#{one.name}": router.machine.queued for one, router in self._routers.items()}
        rows = {key: count for key, count in rows.items() if count}
        if rows or self._has_queued:
            self._has_queued = bool(rows)
            try:
                controller().note_load.remote(ProxyLoad(self._node, rows))
            except Exception as error:
                logger.debug("nobody is told what waits: %s", error)

    # -------------------------------------------------------------- a request

    async def _answer(self, exchange: Exchange) -> None:
        head = exchange.head
        path = plain_path(head.path)
        asked = Asked(head, self._timeout_s)
        if not asked.request_id:
            asked.request_id = new_request_id()
            head.headers.append((b"x-request-id", asked.request_id.encode()))
        try:
            await self._routed(exchange, asked, path)
        except asyncio.CancelledError:
            if exchange.is_gone or not asked.is_late:
                exchange.status = exchange.status or 499
                raise
            self._fail(exchange, asked, timed_out(asked.request_id, asked.timeout_s))
        except TimeoutError:
            self._fail(exchange, asked, timed_out(asked.request_id, asked.timeout_s))
        except ClientGone:
            exchange.status = 499
        except Exception as error:
            self._fail(exchange, asked, failure_of(error))
        finally:
            if asked.timer is not None:
                asked.timer.cancel()
            self._note(exchange, asked, path)

    async def _routed(self, exchange: Exchange, asked: Asked, path: str) -> None:
        head = exchange.head
        if path.startswith("/-/") and path in ("/-/healthz", "/-/routes"):
            self._reply(exchange, asked, self._own(path))
            return
        row = asked.row = self._routes.match(path)
        if row is None:
            raise Failure(404, f"Path '{path}' not found. Ping http://.../-/routes for available routes.")
        if row.request_timeout_s is not None and not asked.has_said:
            asked.timeout_s = row.request_timeout_s
        if asked.timeout_s is not None:
            asked.timer = asyncio.get_running_loop().call_later(asked.timeout_s, _late, exchange, asked)
        exchange.outlives_client = not asked.disconnects
        exchange.serve(row)
        app = asked.app = self._chosen(row, head, asked)
        request, key = self._request(exchange, head, row, exchange.body, exchange.more)
        if row.shadow and not exchange.more:
            self._copy(row, request, asked)
        try:
            answer = await self._router(app, row).http(self._meta(asked, row, app, True), request)
            if type(answer) is HttpReply:
                self._reply(exchange, asked, answer)
            else:
                await self._stream(exchange, asked, answer)  # type: ignore[arg-type]
        finally:
            if key:
                del self._sources[key]

    def _request(
        self,
        source: Exchange | Socket,
        head: Head,
        row: RouteRow,
        body: bytes,
        more: bool,
        kind: Literal["http", "websocket"] = "http",
    ) -> tuple[HttpRequest, int]:
        """The request for the replica, and what it pulls by; 0 where there is nothing to pull."""
        root = self._options.root_path.rstrip("/")
        path = head.path.decode("latin-1")
        key, pulled = 0, b""
        if more:
            key = next(self._numbers)
            self._sources[key] = source
            pulled = pickle.dumps(Source(self._actor, key))
        return HttpRequest(
            head.method,
            root + path,
            head.query,
            head.headers,
            body,
            more,
            source.client,
            source.server,
            source.scheme,
            root if row.prefix == "/" else root + row.prefix,
            head.version,
            kind,
            pulled,
        ), key

    def _meta(self, asked: Asked, row: RouteRow, app: str, is_http: bool) -> RequestMeta:
        deadline = None
        if asked.timeout_s is not None:
            deadline = max(0.0, asked.timeout_s - (time.monotonic() - asked.began))
        return RequestMeta(
            asked.request_id,
            "__call__",
            row.prefix,
            app,
            asked.model_id,
            asked.session_id,
            deadline,
            is_http,
            trace=asked.trace,
        )

    def _router(self, app: str, row: RouteRow) -> Router:
        return self.router_of(DeploymentID(ingress_of(row, app), app))

    def ingress_of(self, row: RouteRow) -> DeploymentID:
        """The deployment that has the requests of a route."""
        return DeploymentID(ingress_of(row, row.app), row.app)

    @property
    def table(self) -> RouteTable:
        """All routes."""
        return self._routes.table

    def router_of(self, deployment: DeploymentID) -> Router:
        """The router of a deployment, made on first use."""
        found = self._routers.get(deployment)
        if found is None:
            found = self._routers[deployment] = router_of(deployment, prefers_node=True)
        return found

    def _chosen(self, row: RouteRow, head: Head, asked: Asked) -> str:
        if not row.split:
            return row.app
        key = sticky_key(row, head.headers, asked.session_id) if row.sticky else None
        return choose(row.split, key, self._random.random())

    def _copy(self, row: RouteRow, request: HttpRequest, asked: Asked) -> None:
        """Send a copy to the shadow of a split, whose answer nobody sees. One that is too slow, or has no replica, gets
        no further ones meanwhile: they would lie here."""
        size = len(request.body)
        if len(self._shadows) >= MOST_COPIES or self._copied + size > COPIED_BYTES:
            if not self._leaves_out:
                logger.warning("The shadow %s does not keep up: requests are left out", row.shadow)
            self._leaves_out = True
            return

        async def send() -> None:
            meta = self._meta(asked, row, row.shadow, True)
            began = time.monotonic()
            is_error = True
            try:
                answer = await self._router(row.shadow, row).http(meta, request)
                if type(answer) is not HttpReply:
                    async for _ in answer:  # type: ignore[union-attr]
                        pass
                is_error = answer.status >= 500
            except Exception as error:
                logger.debug("a shadow's request has failed: %s", error)
            self.count(row.shadow, is_error, time.monotonic() - began)

        def ended(task: asyncio.Task[Any]) -> None:
            self._shadows.discard(task)
            self._copied -= size
            self._leaves_out = self._leaves_out and bool(self._shadows)

        task = asyncio.ensure_future(send())
        self._shadows.add(task)
        self._copied += size
        task.add_done_callback(ended)

    # -------------------------------------------------------------- its answer

    def _reply(self, exchange: Exchange, asked: Asked, reply: HttpReply) -> None:
        exchange.reply(
            reply.status, [*reply.headers, (b"x-request-id", asked.request_id.encode("latin-1"))], reply.body
        )

    async def _stream(self, exchange: Exchange, asked: Asked, stream: HttpStream) -> None:
        try:
            exchange.open(stream.status, [*stream.headers, (b"x-request-id", asked.request_id.encode("latin-1"))])
            await exchange.write(stream.first)
            async for piece in stream:
                await exchange.write(piece)
            exchange.end()
        finally:
            stream.close()

    def _fail(self, exchange: Exchange, asked: Asked, failure: Failure) -> None:
        if exchange.is_gone:
            return
        asked.has_failed = failure.reply.status >= 500 or failure.reply.status == 408
        if exchange.status:
            exchange.abort()  # the client sees that the answer is not whole
        else:
            self._reply(exchange, asked, failure.reply)

    def _own(self, path: str) -> HttpReply:
        """The answer of /-/healthz or /-/routes."""
        why = self.why_not_ready()
        if why:
            return HttpReply(503, PLAIN, why.encode())
        if path == "/-/healthz":
            return HttpReply(200, PLAIN, b"success")
        return HttpReply(200, [(b"content-type", b"application/json")], to_json(self._routes.listing()))

    def why_not_ready(self) -> str:
        """Why it serves nobody; empty where it does."""
        if self._is_draining:
            return DRAINING
        return "" if self._routes.table.version else NO_ROUTES  # one that has had applications is well without any

    def _note(self, exchange: Exchange, asked: Asked, path: str) -> None:
        latency_s = time.monotonic() - asked.began
        row = asked.row
        if row is not None and (row.split or row.shadow):
            self.count(asked.app or row.app, asked.has_failed or exchange.status >= 500, latency_s)
        self._counts.note(row, asked.app, exchange.head.method, exchange.status, latency_s)
        self._log.note(exchange.head.method, path, row, exchange.status, latency_s, asked.request_id)

    def count(self, app: str, is_error: bool, latency_s: float) -> None:
        """A request of a split has ended, for those that watch canaries."""
        outcomes = self._outcomes.get(app)
        if outcomes is None:
            outcomes = self._outcomes[app] = Outcomes(app)
        outcomes.note(is_error, latency_s)

    # -------------------------------------------------------------- websockets

    async def _speak(self, sock: Socket) -> None:
        head = sock.head
        path = plain_path(head.path)
        asked = Asked(head, None)
        asked.request_id = asked.request_id or new_request_id()
        row = asked.row = self._routes.match(path)
        ident = (b"x-request-id", asked.request_id.encode("latin-1"))
        if row is None:
            sock.deny(403, [ident], b"")
            return
        app = self._chosen(row, head, asked)
        request, key = self._request(sock, head, row, b"", True, "websocket")
        try:
            answer = await self._router(app, row).http(self._meta(asked, row, app, True), request)
            if type(answer) is HttpReply:
                sock.deny(answer.status, [*answer.headers, ident], answer.body)
                return
            await self._talk(sock, answer, ident)  # type: ignore[arg-type]
        except (BackPressureError, DeploymentUnavailableError) as error:
            reply = failure_of(error).reply
            sock.deny(reply.status, reply.headers, reply.body)
        finally:
            del self._sources[key]
            latency_s = time.monotonic() - asked.began
            self._counts.note(row, app, "WS", sock.code, latency_s)
            self._log.note("WS", path, row, sock.code, latency_s, asked.request_id)

    async def _talk(self, sock: Socket, stream: HttpStream, ident: tuple[bytes, bytes]) -> None:
        protocol = next(
            (value.decode("latin-1") for name, value in stream.headers if name == b"sec-websocket-protocol"), None
        )
        headers = [one for one in stream.headers if one[0] != b"sec-websocket-protocol"]
        try:
            sock.accept(protocol, [*headers, ident])
            await self._say(sock, stream.first)
            async for piece in stream:
                await self._say(sock, piece)
        finally:
            stream.close()

    async def _say(self, sock: Socket, data: bytes) -> None:
        for kind, payload in frames(data):
            if kind == CLOSE:
                sock.close(int.from_bytes(payload[:2], "big"), payload[2:].decode("utf-8", "replace"))
            else:
                assert kind in (TEXT, BYTES)
                await sock.send(payload.decode() if kind == TEXT else payload)

    # -------------------------------------------------------------- what replicas pull

    async def next_message(self, key: int, reader: str) -> tuple[bool | None, Any]:
        """The next message of a call by gRPC, for the replica that has it."""
        if self._grpc is None:
            return None, None
        found: tuple[bool | None, Any] = await self._grpc.next_message(key, reader)
        return found

    async def receive(self, key: int) -> dict[str, Any]:
        """The next event of a request, for the replica that has it."""
        source = self._sources.get(key)
        if source is None:
            return {"type": "http.disconnect"}
        if isinstance(source, Socket):
            return await source.receive()
        part = await source.receive()
        if part is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": part[0], "more_body": part[1]}


def _late(exchange: Exchange, asked: Asked) -> None:
    """The time of a request is over."""
    asked.is_late = True
    if exchange.task is not None:
        exchange.task.cancel()

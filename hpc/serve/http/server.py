"""A server of HTTP/1.1 on the event loop that runs: connections, their limits and deadlines, and the end of service.

One connection has one request at a time; requests that a client sends ahead wait as bytes, bounded. A sweep each second
ends connections that are too slow, so that no request needs a timer of its own. asyncio sets TCP_NODELAY itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from hpc.serve.http.exchange import ClientGone, Exchange, head_lines
from hpc.serve.http.head import MAX_HEAD_BYTES, Chunks, Head, Refused, read_head
from hpc.serve.http.websocket import GOING_AWAY, NORMAL, UNEXPECTED, Socket, WebSocketLimits

logger = logging.getLogger("hpc.serve")

#: A body that is not larger is handed over whole.
GATHER_BYTES = 1 << 20
#: Bodies that are being gathered, of all connections: beyond it each is handed over as it comes.
GATHERED_BYTES = 64 << 20
#: A body of unknown length is handed over whole if it ends within this time.
GATHER_S = 0.005
#: Bytes of a body, or of requests sent ahead, that lie here unread; then the connection is not read.
UNREAD_BYTES = 256 << 10
#: After a last answer that came before the whole request, its rest is dropped for this long: a reset would take the
#: answer away from the client.
LINGER_S = 2


@dataclass(frozen=True)
class Limits:
    """What a client may take. Times in seconds; 0 or None where there is no limit."""

    head_s: float = 10.0
    body_s: float = 30.0
    idle_s: float = 90.0
    write_s: float = 60.0
    body_bytes: int | None = None
    connections: int = 10_000
    websocket: WebSocketLimits = field(default_factory=WebSocketLimits)


Handler = Callable[[Exchange], Coroutine[Any, Any, None]]
SocketHandler = Callable[[Socket], Coroutine[Any, Any, None]]
#: Looks at a head before anything else is done; raises Refused.
Admit = Callable[[Head, "Connection"], None]


class Connection(asyncio.Protocol):
    """A client's connection."""

    def __init__(self, server: Server, admit: Admit | None, name: str) -> None:
        self._server = server
        self._admit = admit
        #: The door that the client came through.
        self.door = name
        self.client: tuple[str, int] | None = None
        self.server_address: tuple[str, int | None] | None = None
        self.scheme = "http"
        self.closes_after = False
        self.is_full = False
        self._transport: asyncio.Transport
        self._input = bytearray()
        self._scanned = 0
        self._exchange: Exchange | None = None
        self._socket: Socket | None = None
        self._chunks: Chunks | None = None
        self._left = 0
        self._has_begun = False
        self._is_reading = True
        self._is_lingering = False
        self._is_closing = False
        self._is_lost = False
        self._gather: asyncio.TimerHandle | None = None
        self._drained: asyncio.Future[None] | None = None
        self._heard = self._since = server.ticks
        self._unsent = 0
        #: Whether a replica's loop reads it: see `lending`. ``served``: what the last request went to.
        self.is_lent = self._was_lent = False
        self._is_shared = False
        self.served: Any = None
        self.lend_after = self.lend_pause_s = 0.0

    # -------------------------------------------------------------- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        self.client = (str(peer[0]), int(peer[1])) if isinstance(peer, tuple) else None
        self.server_address = (str(own[0]), int(own[1])) if isinstance(own, tuple) else (str(own), None)
        self.scheme = "https" if transport.get_extra_info("ssl_object") is not None else "http"
        if not self._server.add(self):
            self._refuse(Refused(503, "the server has too many connections"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        if self._was_lent:  # processes that a replica has forked may have it open still
            with contextlib.suppress(OSError):
                self.socket().shutdown(socket.SHUT_RDWR)
        self._server.remove(self)
        self._stop_gathering()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if self._socket is not None:
            self._socket.lost()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.is_gone = True
            exchange.wake()
            if exchange.task is not None and not exchange.outlives_client:
                exchange.task.cancel()

    def data_received(self, data: bytes) -> None:
        self._heard = self._server.ticks
        if self._socket is not None:
            self._socket.feed(data)
            return
        if self._is_lingering:
            return
        self._input += data
        # A client that reads no answers is asked for no further ones: they would lie here.
        waits = self.is_full if self._exchange is None else self._exchange.has_all
        if not waits:
            self._advance()
        elif len(self._input) > UNREAD_BYTES:
            self.pause()

    def eof_received(self) -> bool:
        """A client that says nothing more is taken as gone, as under uvicorn."""
        return False

    def pause_writing(self) -> None:
        self.is_full = True
        self._since, self._unsent = self._server.ticks, self._transport.get_write_buffer_size()

    def resume_writing(self) -> None:
        self.is_full = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if self._exchange is None and self._socket is None:
            self._server.loop.call_soon(self._go_on)  # not in the middle of the transport's own work

    # -------------------------------------------------------------- what comes in

    def _advance(self) -> None:
        """Read on, as far as the bytes go."""
        try:
            while self._input:
                if self._exchange is None:
                    if not self._take_head():
                        return
                elif self._exchange.has_all:
                    return
                else:
                    self._take_body(self._exchange)
                if self._socket is not None:
                    return
        except Refused as refused:
            self._refuse(refused)

    def _take_head(self) -> bool:
        """Read a head, if it is whole. Returns whether it was."""
        data = self._input
        while data.startswith(b"\r\n"):  # an empty line before a request is dropped
            del data[:2]
            self._scanned = 0
        end = data.find(b"\r\n\r\n", max(self._scanned - 3, 0), MAX_HEAD_BYTES + 4)
        if end < 0:
            self._check_part(data)
            if not self._scanned:
                self._since = self._server.ticks
            self._scanned = len(data)
            return False
        head = read_head(bytes(data[: end + 4]))
        del data[: end + 4]
        self._scanned = 0
        if self._admit is not None:
            self._admit(head, self)
        limit = self._server.limits.body_bytes
        if limit is not None and head.length is not None and head.length > limit:
            raise Refused(413, f"the body has more than {limit} bytes")
        self._begin(head)
        return True

    def _check_part(self, data: bytearray) -> None:
        """Refuse at once what will never be a head."""
        if len(data) > MAX_HEAD_BYTES:
            raise Refused(431, f"the head of the request has more than {MAX_HEAD_BYTES} bytes")
        if data.count(b"\n", self._scanned) != data.count(b"\r\n", max(self._scanned - 1, 0)):
            raise Refused(400, "a line ends in CR and LF")
        if data and data[0] != 13 and not 32 < data[0] < 127:
            raise Refused(400, "the first line is not one of an HTTP request")

    def _begin(self, head: Head) -> None:
        if head.upgrade == b"websocket" and self._server.socket_handler is not None:
            self._begin_socket(head)
            return
        exchange = self._exchange = Exchange(self, head)
        self._has_begun = False
        self._chunks = Chunks() if head.length is None else None
        self._left = head.length or 0
        if head.length == 0:
            exchange.take(b"", True)
            self._start(exchange)
        elif head.expects_continue or self._left > GATHER_BYTES or self._server.gathered > GATHERED_BYTES:
            self._start(exchange)
        elif head.length is None:
            self._gather = self._server.loop.call_later(GATHER_S, self._gathered)

    def _take_body(self, exchange: Exchange) -> None:
        data, self._input = bytes(self._input), bytearray()
        if self._chunks is not None:
            body, rest = self._chunks.feed(data)
            is_done = self._chunks.is_done
        else:
            body, rest = data[: self._left], data[self._left :]
            self._left -= len(body)
            is_done = not self._left
        self._input += rest
        limit = self._server.limits.body_bytes
        if limit is not None and exchange.received + len(body) > limit:
            raise Refused(413, f"the body has more than {limit} bytes")
        unread = exchange.take(body, is_done)
        if self._has_begun:
            if unread > UNREAD_BYTES and not is_done:
                self.pause()
            return
        self._server.gathered += len(body)
        if is_done or unread > GATHER_BYTES or self._server.gathered > GATHERED_BYTES:
            self._gathered()

    def _gathered(self) -> None:
        """Hand the request over with what has come of its body."""
        if self._exchange is not None and not self._has_begun:
            self._start(self._exchange)

    def _stop_gathering(self) -> None:
        if self._gather is not None:
            self._gather.cancel()
            self._gather = None
        if self._exchange is not None and not self._has_begun:
            self._server.gathered -= self._exchange.received

    def _start(self, exchange: Exchange) -> None:
        self._stop_gathering()
        self._has_begun = True
        exchange.begin()
        self.closes_after = self._server.is_draining or self._is_shared
        exchange.task = self._server.run(exchange)

    def _begin_socket(self, head: Head) -> None:
        sock = Socket(self, head, self._server.limits.websocket)
        sock.check()
        self._socket = sock
        sock.task = self._server.speak(sock)
        rest, self._input = bytes(self._input), bytearray()
        if rest:
            sock.feed(rest)

    def pause(self) -> None:
        """Read no further for now."""
        if self._is_reading and not self._is_lost:
            self._is_reading = False
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on, after what lay here was taken."""
        if not self._is_reading and not self._is_lost:
            self._is_reading = True
            self._heard = self._server.ticks
            self._transport.resume_reading()

    # -------------------------------------------------------------- what goes out

    def send(self, data: bytes) -> None:
        """Send bytes; nothing happens when the client is gone."""
        if not self._is_lost:
            self._transport.write(data)

    def say_continue(self) -> None:
        """Tell a client that asked so that it may send the body."""
        self._heard = self._server.ticks
        self.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    async def drained(self) -> None:
        """Wait until the client has read most of what was sent, or is gone."""
        if self._drained is None or self._drained.done():
            self._drained = self._server.loop.create_future()
        if self.is_full and not self._is_lost:
            await asyncio.shield(self._drained)

    def answered(self, closes: bool) -> None:
        """Go on to the next request, or close the connection."""
        exchange, self._exchange = self._exchange, None
        self._heard = self._since = self._server.ticks
        if closes:
            self._close(exchange is not None and not exchange.has_all)
        else:
            self._go_on()

    def _go_on(self) -> None:
        """Take the next request, once there is room for its answer."""
        if self.is_full or self._is_lost or self._is_closing or self._is_lingering:
            return
        if self._exchange is None and self._socket is None:
            self.resume()
            if self._input:
                self._advance()
            elif self._server.at_rest is not None:
                self._server.at_rest(self)

    # -------------------------------------------------------------- lending

    def socket(self) -> Any:
        """The socket, for questions about it."""
        return self._transport.get_extra_info("socket")

    def lend(self) -> Any:
        """Let another process read and write from here on. Returns the socket; None where that cannot be now."""
        is_plain = self.scheme == "http" and self._exchange is None and self._socket is None and not self._input
        if not is_plain or self._is_lost or self._is_closing or self._is_lingering or self.closes_after:
            return None
        if self._server.is_draining or self._transport.get_write_buffer_size():
            return None
        self.pause()
        self.is_lent = self._was_lent = True
        return self.socket()

    def share(self) -> None:
        """The other process may have it open still, and cannot be told: close after the next answer, for both."""
        self._is_shared = self.closes_after = True

    def take_back(self, data: bytes, *, is_idle: bool = False, refused: Refused | None = None) -> None:
        """Go on here, with what the other process has read and not answered. ``is_idle``: nothing came for too long.
        ``refused``: what it is."""
        self.is_lent = False
        if self._is_lost:
            return
        self._heard = self._since = self._server.ticks
        if refused is not None:
            self._refuse(refused)
            return
        if data:
            self.data_received(data)
        elif self._server.is_draining or is_idle:
            self._close(False)
        self.resume()  # a client that goes ends its request

    def release(self) -> None:
        """Close the connection after a websocket's end."""
        self._close(False)

    def abort(self) -> None:
        """Break the connection at once."""
        if self._is_shared and not self._is_lost:
            with contextlib.suppress(OSError):  # the client is gone
                self.socket().shutdown(socket.SHUT_RDWR)
        self._transport.abort()

    def _refuse(self, refused: Refused) -> None:
        """Answer a request that was not taken, and close."""
        exchange = self._exchange
        if exchange is not None and self._has_begun:
            # Its answer may have begun, so no second one can be sent.
            self.abort()
            return
        self._stop_gathering()
        self._exchange = None
        self.send(refusal(refused))
        self._close(True)

    def _close(self, lingers: bool) -> None:
        if self._is_lost:
            return
        self._since, self._unsent = self._server.ticks, self._transport.get_write_buffer_size()
        if not lingers and not self._is_shared:
            # It is closed once the client has read all, or has read nothing for too long.
            self._is_closing = True
            self._transport.close()
            return
        self._is_lingering = True
        self._input.clear()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self.resume()

    # -------------------------------------------------------------- deadlines

    def sweep(self, ticks: int, limits: Limits) -> None:
        """End what takes too long. One tick is one second."""
        if self.is_lent:
            return
        if self._is_closing or (self._is_lingering and self._transport.get_write_buffer_size()):
            self._sweep_writing(ticks, limits)
        elif self._is_lingering:
            if ticks - self._since > LINGER_S:
                self.abort()
        elif self.is_full:
            self._sweep_writing(ticks, limits)
        elif self._socket is not None:
            self._socket.sweep(ticks, self._heard)
        elif self._exchange is not None:
            late = limits.body_s and ticks - self._heard > limits.body_s
            if late and self._is_reading and self._exchange.is_awaited:
                self._late_body(self._exchange)
        elif self._scanned:
            if limits.head_s and ticks - self._since > limits.head_s:
                self._refuse(Refused(408, "the head of the request did not come in time"))
        elif limits.idle_s and ticks - self._heard > limits.idle_s:
            self._close(False)

    def _late_body(self, exchange: Exchange) -> None:
        if exchange.status:
            self.abort()
            return
        if exchange.task is not None:
            self._exchange = None
            exchange.is_gone = True
            exchange.wake()  # a replica that waits for more of the body is told so
            exchange.task.cancel()
        self._refuse(Refused(408, "the body of the request did not come in time"))

    def _sweep_writing(self, ticks: int, limits: Limits) -> None:
        unsent = self._transport.get_write_buffer_size()
        if unsent < self._unsent:
            self._since = ticks
        self._unsent = unsent
        if limits.write_s and ticks - self._since > limits.write_s:
            self.abort()

    def drain(self) -> None:
        """Take no further request: close now, or after the answer that is being made."""
        self.closes_after = True
        if self._socket is not None:
            self._socket.leave()
        elif self._exchange is None and not self._scanned and not self.is_lent:
            self._close(False)


def refusal(refused: Refused) -> bytes:
    """The answer to a request that was not taken."""
    body = refused.why.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    more = {401: (b"www-authenticate", b"Bearer"), 429: (b"retry-after", b"1")}.get(refused.status)
    headers += [more] if more else []
    framing = b"content-length: %d\r\nconnection: close\r\n" % len(body)
    return head_lines(refused.status, headers, framing) + body


class Server:
    """What listens, and all its connections. ``handler`` answers requests, ``socket_handler`` speaks by websockets."""

    def __init__(
        self, handler: Handler, socket_handler: SocketHandler | None = None, limits: Limits | None = None
    ) -> None:
        self._handler = handler
        self.socket_handler = socket_handler
        self.limits = limits or Limits()
        self.loop = asyncio.get_running_loop()
        self.ticks = 0
        #: Bytes of bodies that are being gathered.
        self.gathered = 0
        self.is_draining = False
        #: Told of each connection that has its answer, and of which nothing more was read.
        self.at_rest: Callable[[Connection], None] | None = None
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening: list[asyncio.AbstractServer] = []
        self._timer: asyncio.TimerHandle | None = None
        self._empty: asyncio.Event = asyncio.Event()
        self._empty.set()

    async def listen_unix(self, bound: socket.socket, admit: Admit | None = None) -> None:
        """Listen on a unix socket that is bound already."""
        server = await self.loop.create_unix_server(lambda: Connection(self, admit, "unix"), sock=bound, backlog=1024)
        self._listening.append(server)

    async def listen_tcp(
        self, host: str, port: int, admit: Admit | None = None, tls: ssl.SSLContext | None = None
    ) -> int:
        """Listen on a port; 0 lets the kernel choose. Returns the port."""
        server = await self.loop.create_server(
            lambda: Connection(self, admit, "tcp"), host, port, ssl=tls, backlog=1024, reuse_address=True
        )
        self._listening.append(server)
        return int(server.sockets[0].getsockname()[1])

    # -------------------------------------------------------------- for connections

    def add(self, connection: Connection) -> bool:
        """Take a connection. Returns False if there are too many."""
        self._connections.add(connection)
        self._empty.clear()
        if self._timer is None:
            self._timer = self.loop.call_later(1.0, self._sweep)
        return len(self._connections) <= self.limits.connections

    def remove(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def run(self, exchange: Exchange) -> asyncio.Task[None]:
        """Begin the work on a request."""
        task = self.loop.create_task(self._answer(exchange))
        self._keep(task)
        return task

    def speak(self, sock: Socket) -> asyncio.Task[None]:
        """Begin the work on a websocket."""
        task = self.loop.create_task(self._speak(sock))
        self._keep(task)
        return task

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _speak(self, sock: Socket) -> None:
        assert self.socket_handler is not None
        code = NORMAL
        try:
            await self.socket_handler(sock)
        except asyncio.CancelledError:
            code = GOING_AWAY
        except ClientGone:
            pass
        except Exception:
            logger.exception("A websocket ends in an error: %s", sock.head.path.decode("latin-1"))
            code = UNEXPECTED
        if not sock.is_accepted and code == UNEXPECTED:
            sock.deny(500, [(b"content-type", b"text/plain; charset=utf-8")], b"Internal Server Error")
        sock.close(code, "")

    async def _answer(self, exchange: Exchange) -> None:
        try:
            await self._handler(exchange)
            if not exchange.is_answered and not exchange.is_gone:
                raise RuntimeError("the request was not answered")
        except asyncio.CancelledError:
            if not exchange.is_gone and not exchange.is_answered:
                exchange.abort()
        except ClientGone:
            pass
        except Exception:
            logger.exception(
                "A request was not answered: %s %s", exchange.head.method, exchange.head.path.decode("latin-1")
            )
            if exchange.status:
                exchange.abort()
            elif not exchange.is_gone:
                exchange.reply(500, [(b"content-type", b"text/plain; charset=utf-8")], b"Internal Server Error")

    def _sweep(self) -> None:
        self.ticks += 1
        for connection in list(self._connections):
            try:
                connection.sweep(self.ticks, self.limits)
            except Exception:  # the deadlines of all others hang on this loop
                logger.exception("A connection is broken, since its deadlines could not be looked at")
                connection.abort()
        self._timer = self.loop.call_later(1.0, self._sweep) if self._connections else None

    # -------------------------------------------------------------- the end

    async def drain(self, timeout_s: float) -> bool:
        """Take no further connection, answer what has been asked, and close. Returns whether all ended in time; what
        did not is broken."""
        self.is_draining = True
        for server in self._listening:
            server.close()
        for connection in list(self._connections):
            connection.drain()
        try:
            await asyncio.wait_for(self._empty.wait(), timeout_s)
        except asyncio.TimeoutError:
            pass
        was_empty = not self._connections
        await self.close()
        return was_empty

    async def close(self) -> None:
        """End all at once."""
        for server in self._listening:
            server.close()
        self._listening.clear()
        for connection in list(self._connections):
            connection.abort()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

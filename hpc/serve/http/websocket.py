"""Websockets: the handshake, frames by wsproto, and the events of ASGI.

wsproto decodes and encodes frames. The handshake is done here, on the head that was checked already. Messages that
nobody takes are bounded: the connection is not read any more. A client that is silent is asked by a ping.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hpc.serve.http.exchange import ClientGone, head_lines
from hpc.serve.http.head import Head, Refused
from hpc.serve.http.ports import Wire

#: Messages, and their bytes, that lie here; then the client is not read.
MOST_MESSAGES = 64
UNREAD_BYTES = 1 << 20
#: Compressed data is decoded in such parts: one of them can grow to a thousand times as much.
PART_BYTES = 16 << 10
#: How long a client may take to answer a close.
CLOSE_S = 5
NORMAL, GOING_AWAY, NO_CODE, LOST, TOO_BIG, UNEXPECTED = 1000, 1001, 1005, 1006, 1009, 1011


@dataclass(frozen=True)
class WebSocketLimits:
    """What a client may send at a time, and how long it may be silent before a ping, and then without an answer."""

    message_bytes: int = 16 << 20
    ping_s: float = 20.0
    pong_s: float = 20.0


class Socket:
    """A websocket from the handshake on. `receive` has the events of ASGI; it is answered by `accept` or `deny`."""

    def __init__(self, connection: Wire, head: Head, limits: WebSocketLimits) -> None:
        self._connection = connection
        self._limits = limits
        self.head = head
        self.client, self.server = connection.client, connection.server_address
        self.scheme = "wss" if connection.scheme == "https" else "ws"
        self.task: asyncio.Task[None] | None = None
        self.is_accepted = False
        self.is_gone = False
        #: The code of the end, once there is one.
        self.code = 0
        self._wire: Any = None
        self._is_compressed = False
        self._early = bytearray()
        self._events: deque[dict[str, Any]] = deque([{"type": "websocket.connect"}])
        self._unread = 0
        #: A message of which the end is not there yet. Its parts are joined at once: a client may send them empty.
        self._begun: bytearray | io.StringIO | None = None
        self._begun_bytes = 0
        self._arrived: asyncio.Future[None] | None = None
        self._closing_since: int | None = None
        self._has_pinged = False
        self._leaving = False

    # -------------------------------------------------------------- the handshake

    def check(self) -> None:
        """Raise Refused unless the head is a right handshake."""
        fields = dict(self.head.headers)
        if self.head.method != "GET" or self.head.length != 0:
            raise Refused(400, "a websocket begins with GET, without a body")
        if fields.get(b"sec-websocket-version") != b"13":
            raise Refused(426, "of websockets version 13 is spoken here")
        try:
            key = base64.b64decode(fields.get(b"sec-websocket-key", b""), validate=True)
        except binascii.Error:
            key = b""
        if len(key) != 16:
            raise Refused(400, "the Sec-WebSocket-Key is not 16 bytes in base64")

    @property
    def subprotocols(self) -> list[str]:
        """The subprotocols that the client offers."""
        offers = [value for name, value in self.head.headers if name == b"sec-websocket-protocol"]
        return [one.strip().decode("latin-1") for offer in offers for one in offer.split(b",") if one.strip()]

    def accept(self, subprotocol: str | None, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Take the client's offer. Raises ValueError for a subprotocol that was not offered."""
        from wsproto.connection import Connection, ConnectionType
        from wsproto.extensions import PerMessageDeflate
        from wsproto.handshake import server_extensions_handshake
        from wsproto.utilities import generate_accept_token

        if self.is_gone:
            return
        if subprotocol is not None and subprotocol not in self.subprotocols:
            raise ValueError(f"the client offers no subprotocol {subprotocol!r}")
        key = dict(self.head.headers)[b"sec-websocket-key"]
        lines = [(b"upgrade", b"websocket"), (b"connection", b"Upgrade")]
        lines.append((b"sec-websocket-accept", generate_accept_token(key)))
        if subprotocol is not None:
            lines.append((b"sec-websocket-protocol", subprotocol.encode("latin-1")))
        offers = [value for name, value in self.head.headers if name == b"sec-websocket-extensions"]
        extension = PerMessageDeflate()
        taken = server_extensions_handshake([one.decode("latin-1") for one in offers], [extension]) if offers else None
        if taken:
            self._is_compressed = True
            lines.append((b"sec-websocket-extensions", taken))
        own = {name for name, _ in lines}
        lines += [(name.lower(), value) for name, value in headers if name.lower() not in own]
        self._connection.send(head_lines(101, lines, b""))
        self._wire = Connection(ConnectionType.SERVER, [extension] if taken else [])
        self.is_accepted = True
        early, self._early = bytes(self._early), bytearray()
        if early:
            self.feed(early)
        if self._leaving:
            self.close(GOING_AWAY, "")

    def deny(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> None:
        """Answer the handshake as a plain request is answered."""
        if self.is_gone or self.is_accepted:
            return
        kept = [(name, value) for name, value in headers if name not in (b"content-length", b"transfer-encoding")]
        framing = b"content-length: %d\r\nconnection: close\r\n" % len(body)
        self._connection.send(head_lines(status, kept, framing) + body)
        self.code = status
        self._end(LOST)
        self._connection.release()

    # -------------------------------------------------------------- what comes in

    def feed(self, data: bytes) -> None:
        """Take bytes that the client has sent."""
        self._has_pinged = False
        if self._wire is None:
            self._early += data
            if len(self._early) > PART_BYTES:
                self._connection.pause()
            return
        size = PART_BYTES if self._is_compressed else len(data)
        for start in range(0, len(data), size):
            if self.is_gone:
                return
            self._wire.receive_data(data[start : start + size])
            for event in self._wire.events():
                self._take(event)

    def _take(self, event: Any) -> None:
        from wsproto.events import BytesMessage, CloseConnection, Message, Ping

        if isinstance(event, Message):
            if self._closing_since is not None:
                return
            if self._begun is None:
                self._begun = bytearray() if isinstance(event, BytesMessage) else io.StringIO()
            if isinstance(self._begun, bytearray):
                self._begun += event.data
            else:
                self._begun.write(event.data)
            self._begun_bytes += len(event.data)
            if self._begun_bytes > self._limits.message_bytes:
                self._begun = None
                self.close(TOO_BIG, "the message is too long")
            elif event.message_finished:
                self._whole(self._begun)
        elif isinstance(event, Ping):
            # A client that reads nothing gets no more: the answer to its last ping is enough (RFC 6455, 5.5.3).
            if self._closing_since is None and not self.is_gone and not self._connection.is_full:
                self._connection.send(self._wire.send(event.response()))
        elif isinstance(event, CloseConnection):
            self._closed_by_client(event)

    def _whole(self, message: bytearray | io.StringIO) -> None:
        size, self._begun, self._begun_bytes = self._begun_bytes, None, 0
        if isinstance(message, bytearray):
            self._put({"type": "websocket.receive", "bytes": bytes(message)}, size)
        else:
            self._put({"type": "websocket.receive", "text": message.getvalue()}, size)

    def _closed_by_client(self, event: Any) -> None:
        from wsproto.utilities import LocalProtocolError

        if self._closing_since is None:
            try:
                self._connection.send(self._wire.send(event.response()))
            except LocalProtocolError:
                pass  # it is closed already
        code = int(event.code)
        self._end(code if code else NO_CODE, event.reason or "")
        self._connection.release()

    def _put(self, event: dict[str, Any], size: int) -> None:
        self._events.append(event)
        self._unread += size
        if len(self._events) > MOST_MESSAGES or self._unread > UNREAD_BYTES:
            self._connection.pause()
        self._wake()

    def _wake(self) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    async def receive(self) -> dict[str, Any]:
        """The next event. After the end it is the disconnect, each time."""
        while not self._events:
            if self._arrived is None or self._arrived.done():
                self._arrived = asyncio.get_running_loop().create_future()
            await self._arrived
        event = self._events[0]
        if event["type"] != "websocket.disconnect":
            self._events.popleft()
            self._unread -= len(event.get("bytes") or event.get("text") or "")
            if len(self._events) <= MOST_MESSAGES and self._unread <= UNREAD_BYTES:
                self._connection.resume()
        return event

    # -------------------------------------------------------------- what goes out

    async def send(self, data: str | bytes) -> None:
        """Send a message, and wait while the client reads slowly. Raises ClientGone."""
        from wsproto.events import BytesMessage, TextMessage

        if self.is_gone or self._closing_since is not None or self._wire is None:
            raise ClientGone
        message = TextMessage(data) if isinstance(data, str) else BytesMessage(data)
        self._connection.send(self._wire.send(message))
        if self._connection.is_full:
            await self._connection.drained()

    def close(self, code: int, reason: str) -> None:
        """Say that it ends. The connection is closed when the client has answered."""
        from wsproto.events import CloseConnection

        if self.is_gone or self._closing_since is not None:
            return
        if self._wire is None:
            self.deny(403, [(b"content-type", b"text/plain")], b"")
            return
        self._closing_since = -1
        self.code = code
        self._connection.send(self._wire.send(CloseConnection(code, reason[:120])))
        if code not in (NORMAL, GOING_AWAY):
            self._put({"type": "websocket.disconnect", "code": code, "reason": reason}, 0)

    def leave(self) -> None:
        """Close, since the server ends."""
        self._leaving = True
        if self._wire is not None:
            self.close(GOING_AWAY, "the service ends here")
            self._put({"type": "websocket.disconnect", "code": GOING_AWAY, "reason": ""}, 0)

    # -------------------------------------------------------------- the end

    def lost(self) -> None:
        """Take note that the connection is gone."""
        self._end(LOST)

    def _end(self, code: int, reason: str = "") -> None:
        if self.is_gone:
            return
        self.is_gone = True
        self.code = self.code or code
        self._events.append({"type": "websocket.disconnect", "code": code, "reason": reason})
        self._wake()

    def sweep(self, ticks: int, heard: int) -> None:
        """Ask a silent client, and break the connection of one that says nothing."""
        from wsproto.events import Ping

        if self.is_gone:
            return
        if self._closing_since is not None:
            if self._closing_since < 0:
                self._closing_since = ticks
            elif ticks - self._closing_since > CLOSE_S:
                self._connection.abort()
        elif self._wire is None or not self._limits.ping_s:
            return
        elif ticks - heard > self._limits.ping_s + self._limits.pong_s:
            self._connection.abort()
        elif ticks - heard > self._limits.ping_s and not self._has_pinged:
            self._has_pinged = True
            self._connection.send(self._wire.send(Ping()))

"""Websockets through the gateway: messages of the client go to a door, and those of the door to the client."""

from __future__ import annotations

import asyncio
import base64
import os
from typing import Any

from hpc.serve.gateway.client import PART_BYTES, Broken, Link
from hpc.serve.gateway.relay import Fields, forwarded, passed_on
from hpc.serve.http.exchange import ClientGone
from hpc.serve.http.websocket import LOST, NO_CODE, UNEXPECTED, Socket

#: The answer of a door that takes no websocket is passed on up to this length.
REFUSAL_BYTES = 64 << 10
_HANDSHAKE = (b"sec-websocket-key", b"sec-websocket-version", b"sec-websocket-extensions", b"sec-websocket-accept")


async def tunnel(sock: Socket, link: Link, key: bytes) -> None:
    """Lead a websocket to a door. Raises Broken where the door has not answered the handshake."""
    head = sock.head
    fields: Fields = [(b"x-api-key", key)] if key else []
    scheme = "https" if sock.scheme == "wss" else "http"
    fields += [one for one in forwarded(head, sock.client, scheme) if one[0] not in _HANDSHAKE]
    fields += [(b"connection", b"Upgrade"), (b"upgrade", b"websocket"), (b"sec-websocket-version", b"13")]
    fields.append((b"sec-websocket-key", base64.b64encode(os.urandom(16))))
    await link.send_head("GET", head.path + b"?" + head.query if head.query else head.path, fields)
    await link.answer("GET")
    headers = [one for one in passed_on(link.headers) if one[0] not in _HANDSHAKE]
    if link.status != 101:
        body = b""
        while len(body) < REFUSAL_BYTES and (part := await link.part()):
            body += part
        sock.deny(link.status, headers, body)
        return
    protocol = next((value.decode("latin-1") for name, value in headers if name == b"sec-websocket-protocol"), None)
    sock.accept(protocol, [one for one in headers if one[0] != b"sec-websocket-protocol"])
    await _Tunnel(sock, link).run()


class _Tunnel:
    def __init__(self, sock: Socket, link: Link) -> None:
        from wsproto.connection import Connection, ConnectionType

        self._sock = sock
        self._link = link
        self._wire: Any = Connection(ConnectionType.CLIENT)

    async def run(self) -> None:
        both = [asyncio.ensure_future(self._up()), asyncio.ensure_future(self._down())]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in both:
                one.cancel()
            ends = await asyncio.gather(*both, return_exceptions=True)
        if any(isinstance(end, Exception) and not isinstance(end, ClientGone) for end in ends):
            self._sock.close(UNEXPECTED, "the service broke off")

    async def _up(self) -> None:
        from wsproto.events import BytesMessage, CloseConnection, TextMessage

        while True:
            event = await self._sock.receive()
            if event["type"] == "websocket.connect":
                continue
            if event["type"] == "websocket.disconnect":
                code = event["code"]
                await self._link.send(self._wire.send(CloseConnection(1001 if code in (NO_CODE, LOST) else code)))
                return
            text = event.get("text")
            message: Any = TextMessage(text) if text is not None else BytesMessage(event["bytes"])
            await self._link.send(self._wire.send(message))

    async def _down(self) -> None:
        from wsproto.events import CloseConnection, Message, Ping

        parts: list[Any] = []
        while True:
            data = await self._link.reader.read(PART_BYTES)
            if not data:
                raise Broken("it closed the connection")
            self._wire.receive_data(data)
            for event in self._wire.events():
                if isinstance(event, Message):
                    parts.append(event.data)
                    if event.message_finished:
                        is_text = isinstance(event.data, str)
                        await self._sock.send("".join(parts) if is_text else b"".join(map(bytes, parts)))
                        parts = []
                elif isinstance(event, Ping):
                    await self._link.send(self._wire.send(event.response()))
                elif isinstance(event, CloseConnection):
                    self._sock.close(int(event.code or 1000), event.reason or "")
                    return

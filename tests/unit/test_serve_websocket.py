"""Websockets of services without a socket: the handshake, frames in any pieces, limits, pings, and the end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

pytest.importorskip("wsproto", reason="needs pip install 'hpc[serve]'")

from http_wire import Wire, settle, statuses
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from hpc.serve.http.exchange import ClientGone
from hpc.serve.http.server import Limits
from hpc.serve.http.websocket import MOST_MESSAGES, Socket, WebSocketLimits

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="


def asking(*fields: bytes) -> bytes:
    lines = [b"GET /chat HTTP/1.1", b"Host: a", b"Upgrade: websocket", b"Connection: Upgrade", *fields]
    return b"".join(line + b"\r\n" for line in lines) + b"\r\n"


HELLO = asking(b"Sec-WebSocket-Key: " + KEY, b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Protocol: v1, v2")


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 30))


async def echo(sock: Socket) -> None:
    assert (await sock.receive())["type"] == "websocket.connect"
    sock.accept("v1" if sock.subprotocols else None, [(b"x-a", b"b")])
    while (event := await sock.receive())["type"] == "websocket.receive":
        await sock.send(event.get("text") or event["bytes"])


class Client:
    """A client that has had its handshake."""

    def __init__(self, speak: Any = echo, limits: WebSocketLimits | None = None) -> None:
        self.wire = Wire(speak=speak, limits=Limits(websocket=limits or WebSocketLimits()))
        self.frames = Connection(ConnectionType.CLIENT)
        self.seen = 0

    async def begin(self) -> bytes:
        out = await self.wire.send(HELLO)
        head, _, rest = out.partition(b"\r\n\r\n")
        self.seen = len(head) + 4
        assert not rest
        return head

    async def say(self, *events: Any, pieces: int = 0) -> list[Any]:
        data = b"".join(self.frames.send(event) for event in events)
        parts = [data[at : at + pieces] for at in range(0, len(data), pieces)] if pieces else [data] * bool(data)
        out = await self.wire.send(*parts)
        self.frames.receive_data(out[self.seen :])
        self.seen = len(out)
        return list(self.frames.events())


def test_the_handshake_is_that_of_the_standard() -> None:
    async def work() -> None:
        head = await Client().begin()
        assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        for line in (b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", b"sec-websocket-protocol: v1", b"x-a: b"):
            assert line in head

    run(work())


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ((b"Sec-WebSocket-Version: 13",), 400),
        ((b"Sec-WebSocket-Key: short", b"Sec-WebSocket-Version: 13"), 400),
        ((b"Sec-WebSocket-Key: " + KEY,), 426),
        ((b"Sec-WebSocket-Key: " + KEY, b"Sec-WebSocket-Version: 8"), 426),
        ((b"Sec-WebSocket-Key: " + KEY, b"Sec-WebSocket-Version: 13", b"Content-Length: 3"), 400),
        ((b"Sec-WebSocket-Key: " + KEY, b"Sec-WebSocket-Version: 13", b"Transfer-Encoding: chunked"), 400),
    ],
)
def test_a_handshake_that_is_none_is_refused(fields: tuple[bytes, ...], status: int) -> None:
    async def work() -> None:
        assert statuses(await Wire(speak=echo).send(asking(*fields))) == [status]

    run(work())


@pytest.mark.parametrize("pieces", [0, 1, 7])
def test_messages_come_back_in_any_pieces(pieces: int) -> None:
    async def work() -> None:
        client = Client()
        await client.begin()
        parts = [TextMessage("hé", message_finished=False), TextMessage("llo"), BytesMessage(b"\0" * 300), Ping(b"p")]
        found = await client.say(*parts, pieces=pieces)
        texts = [event.data for event in found if isinstance(event, TextMessage)]
        assert "".join(texts) == "héllo"
        assert b"".join(bytes(event.data) for event in found if isinstance(event, BytesMessage)) == b"\0" * 300
        assert [event.payload for event in found if isinstance(event, Pong)] == [b"p"]
        (closed,) = [e for e in await client.say(CloseConnection(3001, "bye")) if isinstance(e, CloseConnection)]
        assert closed.code == 3001
        await settle()
        assert client.wire.transport.is_closed

    run(work())


def test_a_message_that_is_too_long_ends_it() -> None:
    async def work() -> None:
        client = Client(limits=WebSocketLimits(message_bytes=100))
        await client.begin()
        found = await client.say(BytesMessage(b"a" * 60, message_finished=False), BytesMessage(b"a" * 60))
        assert [event.code for event in found if isinstance(event, CloseConnection)] == [1009]

    run(work())


def test_frames_that_are_none_end_it() -> None:
    async def work() -> None:
        for data in (b"\xff\xff\xff\xff", b"\x81\x05hello"):  # reserved bits; a client's frame without a mask
            client = Client()
            await client.begin()
            out = (await client.wire.send(data))[client.seen :]
            assert out[:1] == b"\x88" and int.from_bytes(out[2:4], "big") == 1002

    run(work())


def test_empty_parts_of_a_message_take_no_memory() -> None:
    async def work() -> None:
        client = Client()
        await client.begin()
        for kind, empty, last in ((TextMessage, "", "a"), (BytesMessage, b"", b"a")):
            parts = [kind(empty, message_finished=False) for _ in range(5000)]
            await client.say(*parts)
            (sock,) = (one._socket for one in client.wire.server._connections)
            assert isinstance(sock, Socket) and sock._begun is not None
            held = sock._begun
            assert len(held) == 0 if isinstance(held, bytearray) else held.tell() == 0
            found = await client.say(kind(last))
            assert [event.data for event in found] == [last]

    run(work())


def test_pings_of_a_client_that_reads_nothing_or_is_left_are_not_answered() -> None:
    async def work() -> None:
        client = Client()
        await client.begin()
        client.wire.connection.pause_writing()
        assert not await client.say(*[Ping(b"p")] * 100)
        client.wire.connection.resume_writing()
        assert [event.payload for event in await client.say(Ping(b"q"))] == [b"q"]
        draining = asyncio.ensure_future(client.wire.server.drain(10))
        await settle()
        found = await client.say(Ping(b"r"))
        assert [type(event) for event in found] == [CloseConnection]
        client.wire.transport.abort()
        await draining

    run(work())


def test_messages_that_nobody_takes_stop_the_client() -> None:
    async def deaf(sock: Socket) -> None:
        sock.accept(None, [])
        await go.wait()
        while (await sock.receive())["type"] != "websocket.disconnect":
            pass

    async def work() -> None:
        nonlocal go
        go = asyncio.Event()
        client = Client(deaf)
        await client.begin()
        await client.say(*[TextMessage("x")] * (MOST_MESSAGES + 2))
        assert not client.wire.transport.is_reading
        go.set()
        await settle()
        assert client.wire.transport.is_reading
        client.wire.transport.abort()
        await settle()

    go: asyncio.Event
    run(work())


def test_a_silent_client_is_asked_and_then_ended() -> None:
    async def work() -> None:
        client = Client()
        await client.begin()
        client.wire.tick(22)
        assert bytes(client.wire.transport.out[client.seen :]).startswith(b"\x89")
        client.wire.tick(25)
        assert client.wire.transport.is_aborted

    run(work())


def test_a_client_that_closes_and_reads_nothing_is_ended() -> None:
    async def work() -> None:
        client = Client()
        await client.begin()
        client.wire.transport.keeps, client.wire.transport.unsent = True, 100
        await client.say(CloseConnection(1000, ""))
        client.wire.tick(61 + 1)
        assert client.wire.transport.is_aborted

    run(work())


def test_a_client_that_is_gone_is_told_to_the_application() -> None:
    ends: list[Any] = []

    async def talk(sock: Socket) -> None:
        sock.accept(None, [])
        await sock.receive()
        ends.append((await sock.receive())["code"])
        try:
            await sock.send("x")
        except ClientGone:
            ends.append("gone")

    async def work() -> None:
        client = Client(talk)
        await client.begin()
        client.wire.transport.abort()
        await settle()
        assert ends == [1006, "gone"]

    run(work())


def test_draining_says_goodbye() -> None:
    async def work() -> None:
        client = Client()
        await client.begin()
        draining = asyncio.ensure_future(client.wire.server.drain(10))
        await settle()
        (closed,) = await client.say()
        assert isinstance(closed, CloseConnection) and closed.code == 1001
        await client.wire.send(client.frames.send(closed.response()))
        assert await draining

    run(work())

"""A connection of the service's HTTP server without a socket: what a client sends goes in, what it gets is kept."""

from __future__ import annotations

import asyncio
from typing import Any

from hpc.serve.http.exchange import Exchange
from hpc.serve.http.server import Admit, Connection, Limits, Server


class Transport(asyncio.Transport):
    """Keeps what is written. ``unsent``: what a slow client has not read; with ``keeps`` it does not close before."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 5), "sockname": ("127.0.0.1", 80)})
        self.out = bytearray()
        self.unsent = 0
        self.keeps = False
        self.is_closed = self.is_aborted = self.is_reading = False
        self.is_reading = True
        self.at_eof = False
        self.connection: Any = None

    def write(self, data: Any) -> None:
        self.out += data

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.at_eof = True

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def close(self) -> None:
        if not self.is_closed and not self.keeps:
            self.is_closed = True
            asyncio.get_running_loop().call_soon(self.connection.connection_lost, None)

    def abort(self) -> None:
        self.is_aborted, self.keeps = True, False
        self.close()


class Wire:
    """One client of a server whose handler is given; it echoes where none is."""

    def __init__(
        self, handler: Any = None, limits: Limits | None = None, admit: Admit | None = None, speak: Any = None
    ) -> None:
        self.server = Server(handler or echo, speak, limits or Limits())
        self.transport = Transport()
        self.connection = self.connected(self.transport, admit)

    def connected(self, transport: Transport, admit: Admit | None = None) -> Connection:
        """A further connection."""
        connection = transport.connection = Connection(self.server, admit, "tcp")
        connection.connection_made(transport)
        return connection

    async def send(self, *parts: bytes) -> bytes:
        """Send parts one after the other; returns all that came until nothing happens any more."""
        for part in parts:
            if not self.transport.is_closed:
                self.connection.data_received(part)
            await settle()
        return bytes(self.transport.out)

    def tick(self, seconds: int) -> None:
        """Let time go by."""
        for _ in range(seconds):
            self.server.ticks += 1
            for connection in list(self.server._connections):
                connection.sweep(self.server.ticks, self.server.limits)


async def settle() -> None:
    """Let tasks run until they wait."""
    for _ in range(20):
        await asyncio.sleep(0)


async def echo(exchange: Exchange) -> None:
    """Answer with the method, the path and the body."""
    body = exchange.body
    while exchange.more:
        part = await exchange.receive()
        if part is None:
            return
        body += part[0]
    head = exchange.head
    exchange.reply(200, [(b"content-type", b"text/plain")], head.method.encode() + b" " + head.path + b" " + body)


def statuses(out: bytes) -> list[int]:
    """The statuses of the answers in what a client has got."""
    return [int(part[:3]) for part in out.split(b"HTTP/1.1 ")[1:]]

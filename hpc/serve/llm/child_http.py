"""As much HTTP/1.1 as it takes to ask a server that one has started oneself: one request per connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import msgspec

from hpc.serve.llm.engine import EngineError

MAX_LINE_BYTES = 64 * 1024
READ_BYTES = 64 * 1024


class UnixDoor(msgspec.Struct, frozen=True):
    """A socket in a directory that only its user may enter."""

    path: str


class LoopbackDoor(msgspec.Struct, frozen=True):
    """A port of this machine, for servers that know no sockets. Others on the machine may knock: it needs a key."""

    port: int
    key: str


Door = UnixDoor | LoopbackDoor


class Answer:
    """The head of an answer, and a connection that has the rest. Close it, read or not."""

    def __init__(self, status: int, headers: Mapping[str, str], reader: asyncio.StreamReader, writer: Any) -> None:
        self.code = status
        self.headers = headers
        self._reader = reader
        self._writer = writer

    async def parts(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes. Raises EngineError if it breaks off."""
        try:
            if self.headers.get("transfer-encoding", "").lower() == "chunked":
                while size := int((await self._line()).split(b";")[0], 16):
                    yield await self._reader.readexactly(size)
                    await self._reader.readexactly(2)
            elif "content-length" in self.headers:
                left = int(self.headers["content-length"])
                while left:
                    part = await self._reader.read(min(left, READ_BYTES))
                    if not part:
                        raise EOFError
                    left -= len(part)
                    yield part
            else:
                while part := await self._reader.read(READ_BYTES):
                    yield part
        except (OSError, EOFError, ValueError) as error:
            raise EngineError(f"the model's server broke off its answer: {error!r}") from error

    async def body(self) -> bytes:
        """The whole body; the connection is closed then."""
        try:
            return b"".join([part async for part in self.parts()])
        finally:
            self.close()

    def close(self) -> None:
        """Leave: a server that is still at work for this request sees that nobody reads it."""
        self._writer.close()

    async def _line(self) -> bytes:
        line = await self._reader.readuntil(b"\n")
        return line.strip()


async def ask(door: Door, method: str, path: str, body: bytes = b"") -> Answer:
    """Send a request and read the head of its answer. Raises EngineError if there is none."""
    try:
        if isinstance(door, UnixDoor):
            reader, writer = await asyncio.open_unix_connection(door.path, limit=MAX_LINE_BYTES)
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", door.port, limit=MAX_LINE_BYTES)
    except OSError as error:
        raise EngineError(f"the model's server takes no connection: {error}") from error
    try:
        lines = [f"{method} {path} HTTP/1.1", "host: localhost", "connection: close"]
        if isinstance(door, LoopbackDoor):
            lines.append(f"authorization: Bearer {door.key}")
        if body:
            lines += ["content-type: application/json", f"content-length: {len(body)}"]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await writer.drain()
        status, headers = await _head(reader)
        return Answer(status, headers, reader, writer)
    except BaseException as error:
        writer.close()
        if isinstance(error, (OSError, EOFError, ValueError, asyncio.LimitOverrunError)):
            raise EngineError(f"the model's server gave no answer: {error!r}") from error
        raise


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    while True:
        first = (await reader.readuntil(b"\n")).split(maxsplit=2)
        status = int(first[1])
        headers: dict[str, str] = {}
        while line := (await reader.readuntil(b"\n")).strip():
            name, _, value = line.partition(b":")
            headers[name.strip().lower().decode("latin-1")] = value.strip().decode("latin-1")
        # What comes before the answer itself ("100 Continue") is none.
        if status >= 200:
            return status, headers

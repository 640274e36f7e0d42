"""A client of HTTP/1.1 on the event loop that runs: connections to one door, which are kept for the next request."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from hpc.serve.http.head import MAX_HEAD_BYTES, Chunks, Refused

#: A connection without a request is closed after this long: a door itself waits for 90 s.
IDLE_S = 30.0
MOST_IDLE = 256
CONNECT_S = 3.0
PART_BYTES = 64 * 1024
#: A machine that is off says nothing of the connections that it had. They break after about this long; a door that is
#: only slow answers the kernel's questions. TCP_USER_TIMEOUT would end a door that is slow to read, too.
DEAD_S = 20
_ALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, DEAD_S // 2),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, DEAD_S // 4),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2),
)

_STATUS = re.compile(rb"HTTP/1\.([01]) ([0-9]{3})(?: [^\r\n]*)?")
_FIELD = re.compile(rb"([!#-'*+\-.0-9A-Z^_`a-z|~]+):[\t ]*([\t -~\x80-\xff]*?)[\t ]*")
_BODILESS = frozenset({204, 304})


class NotSent(Exception):
    """No connection to the door was made, so the request is nowhere."""


class Broken(Exception):
    """The door broke the connection, or what it said is not HTTP."""


class Link:
    """A connection to a door. One request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.idle_since = 0.0
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self._chunks: Chunks | None = None
        self._left: int | None = 0
        self._is_kept = False
        #: The answer was read to its end.
        self.is_done = True

    async def send_head(self, method: str, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Begin a request. Raises Broken."""
        lines = [b"%s %s HTTP/1.1\r\n" % (method.encode("ascii"), target)]
        lines += [b"%s: %s\r\n" % field for field in headers]
        self.is_done = False
        await self.send(b"".join([*lines, b"\r\n"]))

    async def send(self, data: bytes) -> None:
        """Send bytes, and wait while the door reads slowly. Raises Broken."""
        try:
            self.writer.write(data)
            await self.writer.drain()
        except OSError as error:
            raise Broken(f"the connection broke: {error}") from None

    async def answer(self, method: str) -> None:
        """Read the head of the answer: ``status`` and ``headers``. Raises Broken."""
        try:
            status = 0
            while status < 200 and status != 101:  # "100 Continue" is no answer
                data = await self.reader.readuntil(b"\r\n\r\n")
                minor, status = self._read_head(data)
        except asyncio.IncompleteReadError as error:
            raise Broken("it closed the connection" + (" in the head of its answer" if error.partial else "")) from None
        except (OSError, asyncio.LimitOverrunError) as error:
            raise Broken(f"the head of its answer cannot be read: {error}") from None
        self._frame(method, minor)

    def _read_head(self, data: bytes) -> tuple[bytes, int]:
        first, *lines = data[:-4].split(b"\r\n")
        match = _STATUS.fullmatch(first)
        if match is None:
            raise Broken("what it answered is not HTTP")
        headers = []
        for line in lines:
            found = _FIELD.fullmatch(line)
            if found is None:
                raise Broken("a header of its answer is none")
            headers.append((found[1].lower(), found[2]))
        self.status, self.headers = int(match[2]), headers
        return match[1], self.status

    def _frame(self, method: str, minor: bytes) -> None:
        lengths = {value for name, value in self.headers if name == b"content-length"}
        codings = [value.lower() for name, value in self.headers if name == b"transfer-encoding"]
        options = b",".join(value.lower() for name, value in self.headers if name == b"connection")
        self._is_kept = minor == b"1" and b"close" not in options and self.status != 101
        self._chunks, self._left = None, 0
        if method == "HEAD" or self.status in _BODILESS:
            self.is_done = True
        elif codings:
            if codings != [b"chunked"] or lengths:
                raise Broken("its answer is framed in an unknown way")
            self._chunks, self._left = Chunks(), None
        elif lengths:
            length = lengths.pop()
            if lengths or not length.isdigit() or len(length) > 18:
                raise Broken("the length of its answer is none")
            self._left = int(length)
            self.is_done = not self._left
        else:
            self._left, self._is_kept = None, False

    async def part(self) -> bytes:
        """The next part of the answer's body; empty at its end. Raises Broken."""
        while not self.is_done:
            try:
                data = await self.reader.read(PART_BYTES if self._left is None else min(PART_BYTES, self._left))
            except OSError as error:
                raise Broken(f"the connection broke: {error}") from None
            data = self._taken(data)
            if data:
                return data
        return b""

    def _taken(self, data: bytes) -> bytes:
        if self._chunks is not None:
            if not data:
                raise Broken("it closed the connection in the middle of its answer")
            try:
                data, rest = self._chunks.feed(data)
            except Refused as refused:
                raise Broken(f"its answer cannot be read: {refused.why}") from None
            self.is_done = self._chunks.is_done
            self._is_kept = self._is_kept and not rest
        elif self._left is None:
            self.is_done = not data
        elif not data:
            raise Broken("it closed the connection in the middle of its answer")
        else:
            self._left -= len(data)
            self.is_done = not self._left
        return data

    @property
    def is_reusable(self) -> bool:
        """Whether another request may be sent."""
        return self.is_done and self._is_kept and not self.reader.at_eof() and not self.writer.is_closing()

    def close(self) -> None:
        """Break the connection; the door sees that nobody waits for the rest."""
        self.writer.transport.abort()


class Pool:
    """The connections to one door. ``text``: "unix:PATH" or an URL; ``tls``: for https."""

    def __init__(self, text: str, tls: ssl.SSLContext | None = None) -> None:
        self._text = text
        self._tls = tls
        self._idle: list[Link] = []

    async def take(self, is_fresh: bool = False) -> Link:
        """A connection: the one that was used last, or with ``is_fresh`` a new one. Raises NotSent."""
        now = time.monotonic()
        while self._idle and not is_fresh:
            link = self._idle.pop()
            if link.is_reusable and now - link.idle_since < IDLE_S:
                return link
            link.close()
        try:
            return Link(*await asyncio.wait_for(self._connect(), CONNECT_S))
        except (OSError, asyncio.TimeoutError, ValueError) as error:
            raise NotSent(f"{self._text} takes no connection: {error or 'no answer'}") from None

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._text.startswith("unix:"):
            return await asyncio.open_unix_connection(self._text.removeprefix("unix:"), limit=MAX_HEAD_BYTES)
        url = urlsplit(self._text)
        port = url.port or (443 if url.scheme == "https" else 80)
        tls = (self._tls or ssl.create_default_context()) if url.scheme == "https" else None
        reader, writer = await asyncio.open_connection(url.hostname, port, ssl=tls, limit=MAX_HEAD_BYTES)
        for level, option, value in _ALIVE:
            writer.get_extra_info("socket").setsockopt(level, option, value)
        return reader, writer

    def give_back(self, link: Link) -> None:
        """Keep a connection for the next request, or close it."""
        if link.is_reusable and len(self._idle) < MOST_IDLE:
            link.idle_since = time.monotonic()
            self._idle.append(link)
        else:
            link.close()

    def close(self) -> None:
        """Close what is not in use."""
        for link in self._idle:
            link.close()
        self._idle.clear()


def certificate_of(path: str) -> ssl.SSLContext:
    """To speak with a door that has this very certificate, whatever its name is. Raises OSError, ssl.SSLError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(path)
    return context

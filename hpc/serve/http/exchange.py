"""One request of HTTP and its answer, as the one who answers sees them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from email.utils import formatdate
from http import HTTPStatus

from hpc.serve.http.head import FIELDS, Head
from hpc.serve.http.ports import Wire

Headers = Iterable[tuple[bytes, bytes]]
#: Statuses without a body.
_BODILESS = frozenset({204, 304})
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
_LINES = {code: b"HTTP/1.1 %d %s\r\n" % (code, reason) for code, reason in _REASONS.items()}
#: Headers of an answer that the server makes itself.
_FRAMING = frozenset({b"transfer-encoding", b"keep-alive", b"upgrade", b"proxy-connection", b"te", b"trailer"})


#: Headers that say something of the framing, or are made here else.
_OWN = frozenset({b"content-length", b"connection", b"date"})
_MARK = (b"date", b"")


class ClientGone(Exception):
    """The client has closed the connection before the answer was whole."""


class _Date:
    """The Date header, made once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._line = b""

    def line(self) -> bytes:
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._line = b"date: %s\r\nserver: hpc\r\n" % formatdate(now, usegmt=True).encode()
        return self._line


_date = _Date()


def date_line() -> bytes:
    """The lines that each answer has: its time, and the server's name."""
    return _date.line()


def plain_start(status: int, headers: Headers) -> bytes | None:
    """The first lines of an answer with these headers, up to those that frame its body. None where the headers have a
    say in that, or the answer has no body. Raises ValueError as `head_lines` does."""
    if status in _BODILESS:
        return None
    kept = [(name.lower(), value) for name, value in headers]
    if any(name in _FRAMING or name in _OWN for name, _ in kept):
        return None
    lines = head_lines(status, [*kept, _MARK], b"")
    return lines[: lines.index(b"date: \r\n")]


def head_lines(status: int, headers: Headers, framing: bytes) -> bytes:
    """The head of an answer. Raises ValueError for a header that holds the end of a line, or no token for a name."""
    if not 200 <= status <= 999 and status != 101:
        raise ValueError(f"{status} is no status of an answer")
    lines, has_date, has_colon = [], False, False
    for name, value in headers:
        if name == b"date":
            has_date = True
        has_colon = has_colon or b":" in name
        lines.append(b"%s: %s\r\n" % (name, value))
    text = b"".join(lines)
    if has_colon or text.count(b"\n") != len(lines) or not FIELDS.fullmatch(text):
        raise ValueError("a header of the answer is no field: its name is no token, or it holds the end of a line")
    start = _LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
    return start + text + framing + (b"\r\n" if has_date else _date.line() + b"\r\n")


class Exchange:
    """A request and its answer. ``body``: the bytes that have come; with ``more``, `receive` has the others.

    It is answered once: by `reply`, or by `open`, some `write` and `end`."""

    __slots__ = (
        "_arrived",
        "_at_end",
        "_buffered",
        "_connection",
        "_is_chunked",
        "_left",
        "_parts",
        "_wants",
        "body",
        "client",
        "head",
        "is_answered",
        "is_gone",
        "more",
        "outlives_client",
        "received",
        "scheme",
        "server",
        "status",
        "task",
        "written",
    )

    def __init__(self, connection: Wire, head: Head) -> None:
        self._connection = connection
        self.head = head
        self.client, self.server, self.scheme = connection.client, connection.server_address, connection.scheme
        self.body = b""
        self.more = False
        self.received = 0
        self.task: asyncio.Task[None] | None = None
        self.is_gone = False
        #: The client may go: the work goes on (a request that says so).
        self.outlives_client = False
        self.status = 0
        self.written = 0
        self.is_answered = False
        self._parts: list[bytes] = []
        self._buffered = 0
        self._at_end = False
        self._arrived: asyncio.Future[None] | None = None
        self._wants = head.expects_continue
        self._is_chunked = False
        self._left: int | None = None

    # -------------------------------------------------------------- the request's body

    async def receive(self) -> tuple[bytes, bool] | None:
        """The next part of the body, and whether more follows. None when the client is gone.

        After the body it waits until the client goes, as ASGI has it."""
        if self._wants and not self._at_end and not self.status:  # once the answer has begun it would be part of it
            self._connection.say_continue()
        self._wants = False
        while not self._parts:
            if self.is_gone or self.is_answered:
                return None
            if self._at_end and self.more:
                self.more = False
                return b"", False
            await self._wait()
        data = b"".join(self._parts)
        self._parts.clear()
        self._buffered = 0
        self._connection.resume()
        self.more = not self._at_end
        return data, self.more

    async def _wait(self) -> None:
        if self._arrived is None or self._arrived.done():
            self._arrived = asyncio.get_running_loop().create_future()
        await self._arrived

    def wake(self) -> None:
        """Have `receive` look again."""
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    def take(self, data: bytes, at_end: bool) -> int:
        """Take bytes of the body that the connection has received. Returns how many lie here unread."""
        self.received += len(data)
        if data and not self.is_answered:
            self._parts.append(data)
            self._buffered += len(data)
        self._at_end = at_end
        self.wake()
        return self._buffered

    def begin(self) -> None:
        """Make what has come the ``body``, as the work on the request begins."""
        self.body = b"".join(self._parts)
        self._parts.clear()
        self._buffered = 0
        self.more = not self._at_end

    @property
    def has_all(self) -> bool:
        """Whether all of the request has been received."""
        return self._at_end

    @property
    def is_awaited(self) -> bool:
        """Whether it is the client's turn to send some of the body."""
        return not self._at_end and not self._wants and not self.is_answered

    def serve(self, what: object) -> None:
        """Tell the connection what the request goes to."""
        self._connection.served = what

    # -------------------------------------------------------------- the answer

    def reply(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """Answer with a whole body. Raises ValueError for headers that HTTP does not allow."""
        if self.is_gone:
            return
        kept, length, closes = self._checked(headers)
        closes = closes or not self._at_end
        if status in _BODILESS:
            framing, body = b"", b""
        elif self.head.method == "HEAD":
            framing, body = b"content-length: %d\r\n" % (len(body) if length is None else length), b""
        else:
            framing = b"content-length: %d\r\n" % len(body)
        self._connection.send(head_lines(status, kept, framing + self._closing(closes)) + body)
        self.status, self.written = status, len(body)
        self._finish(closes)

    def open(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Begin an answer whose parts follow. Raises ValueError for headers that HTTP does not allow."""
        if self.is_gone:
            return
        kept, length, closes = self._checked(headers)
        is_bodiless = status in _BODILESS or self.head.method == "HEAD"
        if length is not None and status not in _BODILESS:
            framing = b"content-length: %d\r\n" % length
        elif is_bodiless:
            framing = b""
        elif self.head.version == "1.1":
            framing, self._is_chunked = b"transfer-encoding: chunked\r\n", True
        else:
            framing, closes = b"", True
        self._left = 0 if is_bodiless else length
        # Only what is sent has begun: a head that is refused leaves room for an answer that says so.
        head = head_lines(status, kept, framing + self._closing(closes or not self._at_end))
        self._connection.closes_after = closes
        self.status = status
        self._connection.send(head)

    async def write(self, data: bytes) -> None:
        """Send a part of the body, and wait while the client reads slowly. Raises ClientGone."""
        if self.is_gone:
            raise ClientGone
        if self.head.method == "HEAD" or self.status in _BODILESS or not data:
            return
        self.written += len(data)
        if self._is_chunked:
            self._connection.send(b"%x\r\n%s\r\n" % (len(data), data))
        else:
            if self._left is not None:
                self._left -= len(data)
                if self._left < 0:
                    self.abort()
                    raise ValueError("the answer is longer than its Content-Length")
            self._connection.send(data)
        if self._connection.is_full:
            await self._connection.drained()
            if self.is_gone:
                raise ClientGone

    def end(self) -> None:
        """End an answer that was opened. One that is shorter than its Content-Length breaks the connection."""
        if self.is_gone or self.is_answered:
            return
        if self._left:
            self.abort()
            return
        if self._is_chunked:
            self._connection.send(b"0\r\n\r\n")
        self._finish(self._connection.closes_after or not self._at_end)

    def abort(self) -> None:
        """Break the connection, so that the client sees that the answer is not whole."""
        self.is_answered = True
        self._connection.abort()

    def _checked(self, headers: Sequence[tuple[bytes, bytes]]) -> tuple[list[tuple[bytes, bytes]], int | None, bool]:
        """The headers without those that frame the body, its length, and whether the connection is to be closed."""
        if self.status:
            raise ValueError("the request has been answered")
        kept, length, closes = [], None, False
        for name, value in headers:
            name = name.lower()
            if name == b"content-length":
                if not value.isdigit():
                    raise ValueError(f"the Content-Length of an answer is {value!r}")
                length = int(value)
            elif name == b"connection":
                closes = closes or b"close" in value.lower()
            elif name not in _FRAMING:
                kept.append((name, value))
        return kept, length, closes or self._connection.closes_after or not self.head.keep_alive

    def _closing(self, closes: bool) -> bytes:
        if closes:
            return b"connection: close\r\n"
        return b"connection: keep-alive\r\n" if self.head.version == "1.0" else b""

    def _finish(self, closes: bool) -> None:
        self.is_answered = True
        self.wake()
        self._connection.answered(closes)

"""Connections that the node's proxy has lent to a replica: it reads requests of clients itself, and answers them.

A request of HTTP through a proxy wakes two processes, and travels twice. A client that keeps its connection is served
by the replica alone while there is room, and its requests are plain ones for this deployment. With any other the
connection goes back to the proxy, which serves the request: so all that a proxy knows and does holds for it. What was
read lies in memory of both (`slots`), and the proxy keeps the connection open: a replica that is killed loses nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import os
import resource
import socket
import time
from typing import Any, NamedTuple, Protocol

from hpc.serve.context import NO_REQUEST, current_request, new_request_id
from hpc.serve.http.accesslog import AccessLog
from hpc.serve.http.convert import ERROR
from hpc.serve.http.convert import TEXT as TEXT_TYPE
from hpc.serve.http.eager import Beginner
from hpc.serve.http.exchange import ClientGone, Exchange, date_line, plain_start
from hpc.serve.http.gate import Gate, Names
from hpc.serve.http.head import Head, Refused, read_head
from hpc.serve.http.lane import Lane, Terms, terms_of
from hpc.serve.http.numbers import http_numbers
from hpc.serve.http.routes import Routes, plain_path
from hpc.serve.http.slots import OPEN_ENDED, REQUEST_BYTES, SLOTS, Slot, Slots
from hpc.serve.messages import HttpReply, HttpRequest, RequestMeta

logger = logging.getLogger("hpc.serve")

#: Heads that are known by their bytes: a client sends the same one each time.
MOST_HEADS = 512
#: A part of a request that has lain here for this long is the proxy's, whose deadlines hold for it.
PART_S = 1
#: Why connections go back. RECALLED: the proxy wants it. FULL: there is no room. OTHER: the request is not a plain one.
#: SLOW: a request took `SLOW_S`, so that the proxy costs little beside it, and there are other replicas to choose from.
RECALLED, FULL, OTHER, IDLE, SLOW = "recalled", "full", "other", "idle", "slow"
SLOW_S = 0.005
#: This part of the files that the process may have open may be connections.
FILES_PART = 4
#: Headers by which a request wants something that the proxy does.
_PROXYS = frozenset(
    {
        b"serve_multiplexed_model_id",
        b"serve-multiplexed-model-id",
        b"x-session-id",
        b"x_session_id",
        b"session_id",
        b"session-id",
        b"x-request-timeout-seconds",
        b"x-request-disconnect-disabled",
    }
)


class Host(Protocol):
    """The replica, as connections need it."""

    def has_room(self, spare: int) -> bool:
        """Whether it takes a request now. One that it does not take is counted as turned away."""

    def enter(self, meta: RequestMeta) -> Any:
        """A request begins, in the context that serves it."""

    def left(self, *, is_error: bool = False, is_cancelled: bool = False) -> None:
        """It has ended."""

    def http_app(self) -> Any:
        """What answers."""


class Known(NamedTuple):
    """A head that is served here, with all that is found by looking at it."""

    head: Head
    length: int
    path: str
    request_id: str
    trace: str


def known(data: bytes, terms: Terms, routes: Routes, gate: Gate) -> Known | None:
    """Look at a head. None where the request is not a plain one for this deployment; the proxy says what it is."""
    try:
        head = read_head(data)
        gate.admit(head, None, 0.0)
    except Refused:
        return None
    path = plain_path(head.path)
    row = routes.match(path)
    if row is None or row.prefix != terms.prefix or path.startswith("/-/"):
        return None
    if head.upgrade or head.expects_continue or not head.keep_alive or head.version != "1.1":
        return None
    most = REQUEST_BYTES if terms.body_bytes is None else min(REQUEST_BYTES, terms.body_bytes)
    if head.length is None or head.length > most:
        return None
    ident = trace = ""
    for name, value in head.headers:
        if name in _PROXYS:
            return None
        if name == b"x-request-id":
            ident = value.decode("latin-1")
        elif name == b"traceparent":
            trace = value.decode("latin-1")
    return Known(head, head.length, terms.root + head.path.decode("latin-1"), ident, trace)


class Asked:
    """A request that runs. ``exchange``: made for an answer that is not sent by one `Lent.reply`."""

    __slots__ = ("exchange", "found", "is_gone", "lent", "task")

    def __init__(self, lent: Lent, found: Known) -> None:
        self.lent = lent
        self.found = found
        self.is_gone = False
        self.task: asyncio.Task[None] | None = None
        self.exchange: Exchange | None = None

    def gone(self) -> None:
        """The client has closed the connection."""
        self.is_gone = True
        if self.exchange is not None:
            self.exchange.is_gone = True
            self.exchange.wake()
        if self.task is not None:  # one that has begun in this turn of the loop takes the request over in the next
            asyncio.get_running_loop().call_soon(self.task.cancel)

    def opened(self) -> Exchange:
        """The request as an exchange."""
        exchange = self.exchange = Exchange(self.lent, self.found.head)
        exchange.is_gone = self.is_gone
        exchange.take(b"", True)
        return exchange


class Lent(asyncio.BufferedProtocol):
    """A connection that was lent. It is the `Wire` of its exchanges."""

    def __init__(
        self, lane: ProxyLane, number: int, client: tuple[str, int] | None, server: tuple[str, int | None] | None
    ) -> None:
        self._lane = lane
        self._number = number
        self._slot = Slot(lane.slots, number)
        self.client = client
        self.server_address = server
        self.scheme = "http"
        self.closes_after = False
        self.is_full = False
        self.served: Any = None
        self._transport: asyncio.Transport
        self._asked: Asked | None = None
        self._is_whole = False
        self._sent = 0
        self._size = 0
        #: An answer has been made, and the client has not read all of it.
        self._is_unread = False
        self._is_open = self._is_over = False
        self._why = ""
        #: Seconds for which it rests, or since the first byte of a part of a request, or since the client read last.
        self._ticks = 0
        self._unsent = 0
        self._drained: asyncio.Future[None] | None = None

    # -------------------------------------------------------------- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._is_open = transport, True
        transport.set_write_buffer_limits(high=0)  # what a client has not read is known at once
        if self.closes_after:
            transport.close()
        elif self._why or self._lane.is_leaving:
            self.recall()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the kernel writes: memory that the proxy shares."""
        return self._slot.room()

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes have come."""
        if self._slot.used == self._slot.begin:
            self._ticks = 0
        data = self._slot.received(nbytes)
        if self._asked is None and not self.is_full:
            self._advance(data)
        if not self._is_over and self._slot.is_full:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """A client that says nothing more is taken as gone."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        asked, self._asked = self._asked, None
        if asked is not None:
            asked.gone()
        if not self._is_over:
            self._is_over = True
            self._lane.say("closed", self._number)
            if self.closes_after:  # the proxy is gone, and processes that were forked here may have it open
                with contextlib.suppress(OSError):
                    self._transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        self._lane.forget(self)
        self._slot.close()

    def pause_writing(self) -> None:
        self.is_full = True
        self._ticks, self._unsent = 0, self._transport.get_write_buffer_size()

    def resume_writing(self) -> None:
        self.is_full = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if self._is_unread and not self._is_over:
            self._settle()
        if self._asked is None and not self._is_over:
            asyncio.get_running_loop().call_soon(self._rest)

    # -------------------------------------------------------------- requests

    def _advance(self, data: bytes) -> None:
        """Begin with the request that has come, if it is whole and one for here."""
        if self._is_over:
            return
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            if len(data) >= REQUEST_BYTES or self._slot.is_full:
                self._give_back(OTHER)
            return
        found = self._lane.look(data[:end])
        size = end + found.length if found is not None else 0
        if found is None or size > REQUEST_BYTES or len(data) > size:
            self._give_back(OTHER)
        elif len(data) == size:
            if self._slot.is_revoked:
                self._drop()
            elif self._why or not self._lane.host.has_room(self._lane.terms.spare):
                self._give_back(self._why or FULL)
            else:
                self._begin(found, data[end:], size)
        elif self._slot.is_full:  # others were before it
            self._give_back(OTHER)

    def _begin(self, found: Known, body: bytes, size: int) -> None:
        self._slot.began(size)
        self._size, self._sent, self._is_whole = size, 0, False
        asked = self._asked = Asked(self, found)
        asked.task = self._lane.begin(asked, body)

    def reply(self, data: bytes) -> None:
        """Send a whole answer."""
        self._is_whole = True
        self.send(data)
        self.answered(False)

    def send(self, data: bytes) -> None:
        """Send bytes of an answer. Nothing is sent where the proxy has the connection."""
        if self._is_over:
            return
        if self._slot.is_revoked:
            self._drop()
            return
        self._slot.answering(len(data) if self._is_whole else OPEN_ENDED)
        self._sent += len(data)
        self._transport.write(data)

    async def drained(self) -> None:
        """Wait until the client has read what was sent, or is gone."""
        if self._drained is None or self._drained.done():
            self._drained = asyncio.get_running_loop().create_future()
        if self.is_full and not self._is_over:
            await asyncio.shield(self._drained)

    def answered(self, closes: bool) -> None:
        """The request has its answer."""
        self._asked = None
        if self._is_over:
            return
        if self.is_full:  # what the client has not read ends with this process
            self._is_unread = True
            self._slot.answering(self._sent)
        else:
            self._settle()
        if closes:
            self._transport.close()
        elif self._why or self._slot.used != self._slot.begin:  # not in the task of this request
            asyncio.get_running_loop().call_soon(self._rest)

    def _settle(self) -> None:
        """The kernel has all of an answer: whatever ends now, the client gets it."""
        self._is_unread, self._ticks = False, 0
        self._slot.answered(self._size, self._sent)
        if not self._slot.is_full:
            self._transport.resume_reading()

    def _rest(self) -> None:
        """Go on once nothing runs, and the client has read its answer."""
        if self._is_over or self._asked is not None or self.is_full:
            return
        if self._why:
            self._give_back(self._why)
        elif self._slot.used != self._slot.begin:
            self._advance(self._slot.unread())

    def say_continue(self) -> None:
        """Never needed: such requests are the proxy's."""

    def pause(self) -> None:
        """Never needed: a request is whole."""

    def resume(self) -> None:
        """Never needed: a request is whole."""

    def release(self) -> None:
        """Never needed: there are no websockets here."""

    def abort(self) -> None:
        """Break the connection."""
        self._transport.abort()

    # -------------------------------------------------------------- its end

    def recall(self, why: str = RECALLED) -> None:
        """Give it back, once it is open, and its answer has been read."""
        self._why = self._why or why
        if self._is_open:
            self._rest()

    def finish(self) -> None:
        """The proxy is gone: close it after its answer."""
        self.closes_after = True
        if self._is_open and self._asked is None:
            self._transport.close()

    def _give_back(self, why: str) -> None:
        """The proxy goes on with it, and with what was read. The transport closes this process's descriptor alone."""
        self._is_over = True
        self._transport.abort()
        self._lane.say("back", self._number, why)

    def _drop(self) -> None:
        """The proxy has taken it back meanwhile."""
        self._is_over = True
        self._transport.abort()
        self._lane.say("back", self._number, RECALLED)

    def sweep(self, terms: Terms) -> None:
        """A second has passed."""
        self._ticks += 1
        if self._is_over or not self._is_open:
            return
        if self.is_full:
            unsent = self._transport.get_write_buffer_size()
            if unsent < self._unsent:
                self._ticks = 0
            self._unsent = unsent
            if terms.write_s and self._ticks > terms.write_s:
                self._transport.abort()
        elif self._asked is None:
            if self._slot.used != self._slot.begin:
                if self._ticks > PART_S:
                    self._give_back(OTHER)
            elif terms.idle_s and self._ticks > terms.idle_s:
                self._give_back(IDLE)


class ProxyLane:
    """The lane of one proxy, and the connections that it has lent."""

    slots: Slots
    terms: Terms

    def __init__(self, host: Host, sock: socket.socket, replica: str) -> None:
        self.host = host
        self.is_leaving = self._is_ready = False
        self._loop = asyncio.get_running_loop()
        self._lent: set[Lent] = set()
        self._opening: set[asyncio.Task[Any]] = set()
        clean = contextvars.Context()  # requests know of nothing that this code runs in
        clean.run(current_request.set, NO_REQUEST)
        self._beginner = Beginner(self._loop, clean)
        self._heads: dict[bytes, Known] = {}
        self._answers: dict[tuple[Any, ...], bytes] = {}
        self._log = AccessLog()
        self._counts = http_numbers()
        self._timer: asyncio.TimerHandle | None = None
        self._lane = Lane(sock, self._heard, self._ended)
        self.say = self._lane.say
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // FILES_PART
        self.say("replica", replica, max(0, min(SLOTS, most)))

    # -------------------------------------------------------------- what the proxy says

    def _heard(self, message: list[Any], fds: list[int]) -> None:
        kind = message[0]
        if kind == "lend":
            if fds and self._is_ready:
                self._take(message[1], message[2], message[3], fds[0])
            else:  # too many files are open here, or were as the memory came
                self.say("back", message[1], FULL)
                for fd in fds:
                    os.close(fd)
        elif kind == "recall":
            self.recall()
        elif kind == "terms":
            self._agree(terms_of(message[1]))
        elif kind == "memory" and fds:
            self.slots, self._is_ready = Slots(fds[0]), True
            os.close(fds[0])
        elif kind == "ping":
            self.say("pong", message[1])

    def _agree(self, terms: Terms) -> None:
        self.terms = terms
        self._heads.clear()
        self._routes = Routes(terms.routes)
        self._gate = Gate(Names(terms.names))
        self._row = self._routes.match(terms.prefix)
        self._root = terms.root if terms.prefix == "/" else terms.root + terms.prefix

    def _take(self, number: int, client: Any, server: Any, fd: int) -> None:
        lent = Lent(self, number, client and tuple(client), server and tuple(server))
        self._lent.add(lent)
        task = self._loop.create_task(self._open(lent, socket.socket(fileno=fd)))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        if self._timer is None:
            self._timer = self._loop.call_later(1.0, self._sweep)

    async def _open(self, lent: Lent, sock: socket.socket) -> None:
        sock.setblocking(False)
        try:
            await self._loop.connect_accepted_socket(lambda: lent, sock)
        except Exception as error:
            logger.exception("A connection that was lent is broken")
            sock.close()
            lent.connection_lost(error)

    def _ended(self) -> None:
        """The proxy is gone: what runs is answered, and then the clients are let go."""
        self.is_leaving = True
        for lent in list(self._lent):
            lent.finish()

    def recall(self, why: str = RECALLED) -> None:
        """Give all back."""
        for lent in list(self._lent):
            lent.recall(why)

    def leave(self) -> None:
        """Give all back, and take none any more."""
        self.is_leaving = True
        self.recall()

    def forget(self, lent: Lent) -> None:
        """A connection is not here any more."""
        self._lent.discard(lent)

    @property
    def is_open(self) -> bool:
        """Whether the proxy is there."""
        return self._lane.is_open

    @property
    def has_loans(self) -> bool:
        """Whether there are connections that were not given back yet."""
        return bool(self._lent)

    def _sweep(self) -> None:
        for lent in list(self._lent):
            lent.sweep(self.terms)
        self._timer = self._loop.call_later(1.0, self._sweep) if self._lent else None

    # -------------------------------------------------------------- requests

    def look(self, data: bytes) -> Known | None:
        """What a head is. Equal bytes are looked at once."""
        found = self._heads.get(data)
        if found is None:
            found = known(data, self.terms, self._routes, self._gate)
            if found is not None:
                if len(self._heads) >= MOST_HEADS:
                    self._heads.clear()
                self._heads[data] = found
        return found

    def begin(self, asked: Asked, body: bytes) -> asyncio.Task[None] | None:
        """Serve a request. Returns the task, where it goes on."""
        return self._beginner.begin(self._serve(asked, body))

    async def _serve(self, asked: Asked, body: bytes) -> None:
        began, found, terms = time.monotonic(), asked.found, self.terms
        ident, headers = found.request_id, found.head.headers
        if not ident:
            ident = new_request_id()
            headers = [*headers, (b"x-request-id", ident.encode())]
        is_error = is_cancelled = False
        status = 0
        self.host.enter(RequestMeta(ident, "__call__", terms.prefix, terms.app, is_http=True, trace=found.trace))
        try:
            request = HttpRequest(
                found.head.method, found.path, found.head.query, headers, body, False, asked.lent.client,
                asked.lent.server_address, "http", self._root,
            )  # fmt: skip
            answer = await self.host.http_app().handle(request, _nothing_further)
            status = answer.status
            is_error = status >= 500
            await self._answer(asked, answer, (b"x-request-id", ident.encode("latin-1")))
        except asyncio.CancelledError:
            status, is_cancelled = 499, True
            if not asked.is_gone:
                asked.lent.abort()
            raise
        except ClientGone:
            status, is_cancelled = 499, True
        except Exception:
            status, is_error = 500, True
            logger.exception("A request was not answered: %s %s", found.head.method, found.path)
            _fail(asked, ident)
        finally:
            self.host.left(is_error=is_error, is_cancelled=is_cancelled)
            took_s = time.monotonic() - began
            if took_s >= SLOW_S and terms.spare == 1:
                self._loop.call_soon(self.recall, SLOW)
            self._counts.note(self._row, terms.app, found.head.method, status, took_s)
            self._log.note(found.head.method, found.path, self._row, status, took_s, ident)

    async def _answer(self, asked: Asked, answer: Any, own: tuple[bytes, bytes]) -> None:
        if type(answer) is not HttpReply:
            await _stream(asked.opened(), answer, own)
            return
        start = self._start_of(asked, answer)
        if start is None:
            asked.opened().reply(answer.status, [*answer.headers, own], answer.body)
        elif not asked.is_gone:
            framing = b"x-request-id: %s\r\ncontent-length: %d\r\n" % (own[1], len(answer.body))
            asked.lent.reply(b"".join((start, framing, date_line(), b"\r\n", answer.body)))

    def _start_of(self, asked: Asked, answer: HttpReply) -> bytes | None:
        """The first lines of an answer, which are made once. None where they are not all that there is to it."""
        if asked.found.head.method == "HEAD" or asked.lent.closes_after:
            return None
        key = (answer.status, *answer.headers)
        start = self._answers.get(key)
        if start is None:
            start = plain_start(answer.status, answer.headers)
            if start is not None:
                if len(self._answers) >= MOST_HEADS:
                    self._answers.clear()
                self._answers[key] = start
        return start


async def _stream(exchange: Exchange, stream: Any, own: tuple[bytes, bytes]) -> None:
    try:
        exchange.open(stream.status, [*stream.headers, own])
        await exchange.write(stream.first)
        async for piece in stream:
            await exchange.write(piece)
        exchange.end()
    finally:
        await stream.close()


async def _nothing_further() -> Any:
    """A request has come whole."""
    return {"type": "http.disconnect"}


def _fail(asked: Asked, ident: str) -> None:
    if asked.is_gone:
        return
    if asked.exchange is not None and asked.exchange.status:
        asked.exchange.abort()  # the client sees that the answer is not whole
        return
    headers = [(b"content-type", TEXT_TYPE), (b"x-request-id", ident.encode("latin-1"))]
    asked.opened().reply(500, headers, ERROR)

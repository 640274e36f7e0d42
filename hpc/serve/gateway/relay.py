"""How a request goes through the gateway: to a door, and again to another one where that cannot do any harm."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from hpc.serve.gateway.backends import Backends, Door
from hpc.serve.gateway.client import Broken, Link, NotSent, Pool
from hpc.serve.http.exchange import Exchange
from hpc.serve.http.head import Head

logger = logging.getLogger("hpc.serve")

Fields = list[tuple[bytes, bytes]]
#: Requests that may be sent again after a door had them; others only with an Idempotency-Key.
IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"})
MOST_RETRIES = 2
#: An answer that is not longer is read whole before it is passed on, so that a request can still be sent again.
WHOLE_BYTES = 256 << 10
#: Requests that wait for a door, and the bytes of their bodies.
MOST_WAITING = 1000
MOST_HELD_BYTES = 256 << 20
#: Headers that concern one connection only, and those that are made here.
_HOP = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
        b"trailer", b"transfer-encoding", b"upgrade", b"expect", b"content-length", b"host", b"x-forwarded-for",
        b"x-forwarded-host", b"x-forwarded-proto", b"forwarded",
    }
)  # fmt: skip
_TEXT = [(b"content-type", b"text/plain; charset=utf-8")]


class NoDoor(Exception):
    """No job serves at the moment."""


class Relay:
    """Sends requests to doors. ``pool_of``: the connections to a door. ``key_of``: the key that a door wants, or
    empty. ``wait_s``: how long a request waits for a job that serves."""

    def __init__(
        self,
        backends: Backends,
        pool_of: Callable[[Door], Pool],
        key_of: Callable[[Door], bytes],
        wait_s: float,
    ) -> None:
        self._backends = backends
        self._pool_of = pool_of
        self._key_of = key_of
        self._wait_s = wait_s
        self._changed = asyncio.Event()
        self._waiting = 0
        self._held_bytes = 0

    def changed(self) -> None:
        """A door may be open that was not: those that wait look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    # -------------------------------------------------------------- a door

    async def door(self, held_bytes: int, deadline: float, avoided: set[Door]) -> Door:
        """The door for a request, once there is one. Raises NoDoor."""
        found = self._backends.choose(time.time(), avoided)
        if found is not None:
            return found
        if self._waiting >= MOST_WAITING or self._held_bytes + held_bytes > MOST_HELD_BYTES:
            raise NoDoor("too many requests wait for a job that serves")
        self._waiting += 1
        self._held_bytes += held_bytes
        try:
            while found is None:
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    raise NoDoor("no job serves at the moment")
                now = time.time()
                opens_at = self._backends.next_at(now)
                pause_s = left_s if opens_at is None else min(left_s, opens_at - now + 0.001)
                try:
                    await asyncio.wait_for(self._changed.wait(), pause_s)
                except asyncio.TimeoutError:
                    pass
                found = self._backends.choose(time.time(), avoided)
        finally:
            self._waiting -= 1
            self._held_bytes -= held_bytes
        return found

    # -------------------------------------------------------------- a request

    async def answer(self, exchange: Exchange) -> None:
        """Answer a request by what a door answers."""
        passage = _Passage(exchange)
        deadline = time.monotonic() + self._wait_s
        avoided: set[Door] = set()
        try:
            while not await self._try(passage, deadline, avoided):
                pass
        except NoDoor as error:
            exchange.reply(503, [*_TEXT, (b"retry-after", b"5")], f"{error}: come again".encode())
        except Broken as error:
            logger.warning("%s %s: %s", exchange.head.method, exchange.head.path.decode("latin-1"), error)
            if exchange.status:
                exchange.abort()  # the client sees that the answer is not whole
            else:
                exchange.reply(502, _TEXT, f"the service broke off: {error}".encode())

    async def _try(self, passage: _Passage, deadline: float, avoided: set[Door]) -> bool:
        """Send the request to one door. Returns whether it was answered; raises Broken where it must not go again."""
        door = await self.door(len(passage.exchange.body), deadline, avoided)
        pool = self._pool_of(door)
        door.running += 1
        link = None
        try:
            link = await pool.take(passage.retries > 0)
            was_used = link.idle_since > 0
            await passage.through(link, self._key_of(door))
            self._backends.answered(door)
            return True
        except NotSent:
            self._backends.refused(door, time.time())
            avoided.add(door)
        except Broken:
            if not was_used:
                self._backends.refused(door, time.time())
                avoided.add(door)
            if not passage.may_go_again():
                raise
        finally:
            door.running -= 1
            if link is not None:
                pool.give_back(link)
        return False


class _Passage:
    """One request on its way."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        head = exchange.head
        self.retries = 0
        self._is_safe = head.method in IDEMPOTENT or any(name == b"idempotency-key" for name, _ in head.headers)
        self._has_rest = exchange.more
        self._is_begun = False
        self._target = head.path + b"?" + head.query if head.query else head.path
        self._headers = forwarded(head, exchange.client, exchange.scheme)
        if self._has_rest and head.length is None:
            self._headers.append((b"transfer-encoding", b"chunked"))
        elif head.length is None or head.length or head.method not in ("GET", "HEAD", "OPTIONS"):
            length = head.length if self._has_rest else len(exchange.body)
            self._headers.append((b"content-length", b"%d" % (length or 0)))

    def may_go_again(self) -> bool:
        """Whether a request that a door had may be sent to another one; counts it."""
        if not self._is_safe or self.exchange.status or self.exchange.is_gone or self.retries >= MOST_RETRIES:
            return False
        if self._has_rest and self._is_begun:
            return False  # what was sent of its body is kept nowhere
        self.retries += 1
        return True

    async def through(self, link: Link, key: bytes) -> None:
        """Send it by this connection, and the answer to the client. Raises Broken."""
        exchange = self.exchange
        headers = [(b"x-api-key", key), *self._headers] if key else self._headers
        await link.send_head(exchange.head.method, self._target, headers)
        sender = None
        if self._has_rest:
            self._is_begun = True
            sender = asyncio.ensure_future(self._send_body(link))
        elif exchange.body:
            await link.send(exchange.body)
        is_whole = False
        try:
            await link.answer(exchange.head.method)
            if link.status == 101:
                raise Broken("it changes the protocol, which nobody asked for")
            await self._pass_on(link)
            is_whole = sender is None or (sender.done() and not sender.cancelled() and sender.exception() is None)
        finally:
            if sender is not None:
                sender.cancel()
                await asyncio.gather(sender, return_exceptions=True)
            if not is_whole or not link.is_done:
                link.close()

    async def _send_body(self, link: Link) -> None:
        """Send the body as it comes from the client."""
        exchange = self.exchange
        is_chunked = exchange.head.length is None
        data, more = exchange.body, True
        while True:
            if data:
                await link.send(b"%x\r\n%s\r\n" % (len(data), data) if is_chunked else data)
            if not more:
                break
            part = await exchange.receive()
            if part is None:
                return  # the client is gone, or has its answer already
            data, more = part
        if is_chunked:
            await link.send(b"0\r\n\r\n")

    async def _pass_on(self, link: Link) -> None:
        exchange = self.exchange
        headers = passed_on(link.headers)
        length = next((int(value) for name, value in link.headers if name == b"content-length"), None)
        if length is not None:
            headers.append((b"content-length", b"%d" % length))
        if link.is_done or (length is not None and length <= WHOLE_BYTES):
            parts = []
            while part := await link.part():
                parts.append(part)
            exchange.reply(link.status, headers, b"".join(parts))
            return
        exchange.open(link.status, headers)
        while part := await link.part():
            await exchange.write(part)
        exchange.end()


def forwarded(head: Head, client: tuple[str, int] | None, scheme: str) -> Fields:
    """The headers for a door: it is called localhost there, and is told by which name and from where it was asked."""
    dropped = _options(head.headers)
    fields: Fields = [(b"host", b"localhost")]
    for name, value in head.headers:
        if name in _HOP or name in dropped:
            continue
        if name == b"origin" and value.partition(b"://")[2] == head.host:
            value = b"http://localhost"  # a page of this service stays one
        fields.append((name, value))
    fields.append((b"x-forwarded-host", head.host))
    fields.append((b"x-forwarded-proto", scheme.encode("ascii")))
    if client is not None:
        fields.append((b"x-forwarded-for", client[0].encode("latin-1")))
    return fields


def passed_on(headers: Sequence[tuple[bytes, bytes]]) -> Fields:
    """The headers of an answer that are for the client."""
    dropped = _options(headers)
    return [(name, value) for name, value in headers if name not in _HOP and name not in dropped]


def _options(headers: Sequence[tuple[bytes, bytes]]) -> set[bytes]:
    """The headers that the header Connection names."""
    return {one.strip().lower() for name, value in headers if name == b"connection" for one in value.split(b",")}

"""Plain TCP for the bytes of objects, for those who switched bulk encryption off: from the arena to the arena, no copy.

The reader dials. It has a token that the source made for it, and that came over the encrypted link. It shows the token
once, and the source answers with a second one. From then on pieces of objects flow in that direction alone. Everything
else (who wants what, who has what) stays on the encrypted links. A stranger at the port can have `HELLO.size` bytes
read and `STRANGER_S` of a socket, `MAX_STRANGERS` at a time.

Rejected: the bulk links' ZeroMQ without CURVE, which copies each piece three times more, and parses what a stranger
sends before we see any of it. Rejected too: a thread for each stream. Memory may be given to another object between its
turns; on the reactor's thread that cannot happen within a call.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from hpc.core.ids import ID_BYTES
from hpc.core.net.accept import accept_on
from hpc.core.net.curve import LogLimit
from hpc.core.net.reactor import Reactor, Timer

log = logging.getLogger(__name__)

MAGIC = b"hpcB"
TOKEN_BYTES = 32
#: magic, the node that dials, its token
HELLO = struct.Struct(f"<4sI{TOKEN_BYTES}s")
#: magic, object, where the piece begins, size of the object, size of the piece, which follows
PIECE = struct.Struct(f"<4s{ID_BYTES}sQQI")
PIECE_BYTES = 256 << 10
#: Bytes moved in one call, before others get their turn.
TURN_BYTES = 4 << 20
#: How long a connection may take to say whose it is.
STRANGER_S = 2.0
MAX_STRANGERS = 64
#: How long a token is good.
TOKEN_S = 10.0
DIAL_S = 5.0
#: A peer whose kernel has not acknowledged anything for so long is gone.
SILENT_MS = 20_000


def same_bytes(one: bytes | bytearray, other: bytes) -> bool:
    """Compared in a time that does not tell where they differ."""
    from hmac import compare_digest  # with OpenSSL, which nodes that encrypt everything do without

    return compare_digest(one, other)


def _prepare(sock: socket.socket) -> None:
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENT_MS)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


class PlainPort:
    """The listening side. ``admitted(node, socket)`` is called for each connection that had a good token."""

    def __init__(self, reactor: Reactor, host: str, admitted: Callable[[int, socket.socket], None]) -> None:
        self.host = host.strip("[]")
        self.refused = 0
        self._reactor = reactor
        self._admitted = admitted
        #: node -> its token, our answer to it, and when both end
        self._tokens: dict[int, tuple[bytes, bytes, float]] = {}
        self._strangers: dict[socket.socket, tuple[bytearray, Timer]] = {}
        self._limit = LogLimit()
        self._listener = socket.socket(_family(self.host), socket.SOCK_STREAM)
        try:
            self._listener.setblocking(False)
            self._listener.bind((self.host, 0))
            self._listener.listen(128)
        except BaseException:
            self._listener.close()
            raise
        self.port = int(self._listener.getsockname()[1])
        self._acceptor = accept_on(reactor, self._listener, self._accept, log.error)

    def issue(self, node: int) -> tuple[bytes, bytes]:
        """A token with which this node, and it alone, may connect once, soon; and what it will be answered."""
        token, answer = os.urandom(TOKEN_BYTES), os.urandom(TOKEN_BYTES)
        self._tokens[node] = token, answer, self._reactor.now() + TOKEN_S
        return token, answer

    def forget(self, node: int) -> None:
        """The node is gone: its token is no good any more."""
        self._tokens.pop(node, None)

    def _accept(self) -> None:
        sock = self._acceptor.take()
        if sock is None:
            return
        if len(self._strangers) >= MAX_STRANGERS:
            self._refuse(next(iter(self._strangers)), "too many of them do")
        _prepare(sock)
        timer = self._reactor.call_later(STRANGER_S, partial(self._refuse, sock, "it took too long"))
        self._strangers[sock] = bytearray(), timer
        self._reactor.add_reader(sock.fileno(), partial(self._hear, sock))

    def _refuse(self, sock: socket.socket, why: str) -> None:
        if self._strangers.get(sock) is None:
            return
        self._release(sock)
        sock.close()
        self.refused += 1
        self._limit.warn(log, "closed a connection to the port for objects that does not say whose it is: %s", why)

    def _release(self, sock: socket.socket) -> None:
        _, timer = self._strangers.pop(sock)
        timer.cancel()
        self._reactor.remove(sock.fileno())

    def _hear(self, sock: socket.socket) -> None:
        heard, _ = self._strangers[sock]
        try:
            data = sock.recv(HELLO.size - len(heard))
        except BlockingIOError:
            return
        except OSError:
            data = b""
        heard += data
        if not data:
            self._refuse(sock, "it was closed")
        elif not heard.startswith(MAGIC[: len(heard)]):
            self._refuse(sock, "it speaks something else")
        elif len(heard) == HELLO.size:
            self._judge(sock, bytes(heard))

    def _judge(self, sock: socket.socket, hello: bytes) -> None:
        _, node, shown = HELLO.unpack(hello)
        token, answer, until = self._tokens.get(node, (b"", b"", 0.0))
        if not token or not same_bytes(token, shown) or self._reactor.now() > until:
            self._refuse(sock, "its token is not good, or not any more")
            return
        del self._tokens[node]
        self._release(sock)
        try:
            sock.send(answer)  # 32 bytes find room in a new socket
        except OSError:
            sock.close()
            return
        self._admitted(node, sock)

    def close(self) -> None:
        """Listen no more; connections that were admitted are not ours."""
        self._reactor.remove(self._listener.fileno())
        self._acceptor.close()
        for sock in list(self._strangers):
            self._release(sock)
            sock.close()


class PlainDial:
    """One attempt to connect. Exactly one of ``opened(socket)`` and ``failed(why)`` is called, unless it is closed."""

    def __init__(
        self, reactor: Reactor, node: int, host: str, port: int, token: bytes, answer: bytes,
        opened: Callable[[socket.socket], None], failed: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._reactor = reactor
        self._hello = HELLO.pack(MAGIC, node, token)
        self._answer = answer
        self._heard = bytearray()
        self._opened, self._failed = opened, failed
        self._sock: socket.socket | None = socket.socket(_family(host), socket.SOCK_STREAM)
        self._timer = reactor.call_later(DIAL_S, lambda: self._end("it took too long"))
        try:
            _prepare(self._sock)
            self._sock.connect((host, port))
        except BlockingIOError:
            pass
        except OSError as error:
            why = error.strerror or repr(error)
            reactor.call_soon(lambda: self._end(why))
            return
        reactor.set_writer(self._sock.fileno(), self._connected)

    def _connected(self) -> None:
        sock = self._sock
        assert sock is not None
        number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            self._end(OSError(number, "").strerror or f"error {number}")
            return
        self._reactor.set_writer(sock.fileno(), None)
        try:
            sock.send(self._hello)  # 40 bytes find room in a new socket
        except OSError as error:
            self._end(str(error))
            return
        self._reactor.add_reader(sock.fileno(), self._hear)

    def _hear(self) -> None:
        sock = self._sock
        assert sock is not None
        try:
            data = sock.recv(TOKEN_BYTES - len(self._heard))
        except BlockingIOError:
            return
        except OSError as error:
            self._end(str(error))
            return
        self._heard += data
        if not data:
            self._end("it was closed there")
        elif len(self._heard) == TOKEN_BYTES:
            good = same_bytes(self._heard, self._answer)
            self._end("" if good else "somebody else listens there")

    def _end(self, why: str) -> None:
        sock = self._sock
        if sock is None:
            return
        self._sock = None
        self._timer.cancel()
        self._reactor.remove(sock.fileno())
        if why:
            sock.close()
            self._failed(why)
        else:
            self._opened(sock)

    def close(self) -> None:
        """Give up; nobody is told."""
        if self._sock is not None:
            self._timer.cancel()
            self._reactor.remove(self._sock.fileno())
            self._sock.close()
            self._sock = None


class _End:
    """One end of a stream. ``gone()``: the connection has ended, and not by `close`."""

    def __init__(
        self, reactor: Reactor, sock: socket.socket, on_readable: Callable[[], None], gone: Callable[[], None]
    ):
        self._reactor = reactor
        self._sock = sock
        self._gone = gone
        self._open = True
        reactor.add_reader(sock.fileno(), on_readable)

    def _end(self) -> None:
        if self._open:
            self.close()
            self._gone()

    def close(self) -> None:
        """End the stream; nobody is told."""
        if self._open:
            self._open = False
            self._reactor.remove(self._sock.fileno())
            self._sock.close()


class PlainSender(_End):
    """The source's end of a stream. What is queued are names, not memory. ``find(object, at, size, total)`` gives the
    bytes when it is their turn, or None if they are not there any more. Then ``lost(object, at, bytes that waited)`` is
    told."""

    def __init__(
        self, reactor: Reactor, sock: socket.socket,
        find: Callable[[bytes, int, int, int], memoryview | None],
        lost: Callable[[bytes, int, int], None],
        gone: Callable[[], None],
    ) -> None:  # fmt: skip
        super().__init__(reactor, sock, self._on_readable, gone)
        self._find, self._lost = find, lost
        self._queue: deque[tuple[bytes, int, int, int]] = deque()
        #: Of the piece that was sent in part: its memory may be another object's at the next turn.
        self._rest = b""
        self._waiting = False

    def send(self, ident: bytes, at: int, size: int, total: int) -> None:
        """Queue a part of an object."""
        end = at + size
        while at < end:
            part = min(PIECE_BYTES, end - at)
            self._queue.append((ident, at, part, total))
            at += part
        if not self._waiting:
            self._waiting = True
            self._reactor.set_writer(self._sock.fileno(), self._flush)

    def _flush(self) -> None:
        budget = TURN_BYTES
        try:
            while budget > 0 and self._open:
                if self._rest:
                    sent = self._sock.send(self._rest)
                    budget -= sent
                    self._rest = self._rest[sent:]
                    if self._rest:
                        return
                elif self._queue:
                    budget -= self._send_piece()
                else:
                    self._waiting = False
                    self._reactor.set_writer(self._sock.fileno(), None)
                    return
        except BlockingIOError:
            return
        except OSError:
            self._end()

    def _send_piece(self) -> int:
        ident, at, size, total = self._queue[0]
        view = self._find(ident, at, size, total)
        if view is None:
            waited = sum(piece[2] for piece in self._queue if piece[0] == ident)
            self._queue = deque(piece for piece in self._queue if piece[0] != ident)
            self._lost(ident, at, waited)
            return 0
        head = PIECE.pack(MAGIC, ident, at, total, size)
        sent = self._sock.sendmsg([head, view])
        self._queue.popleft()
        if sent < len(head) + size:
            self._rest = head[sent:] + view[max(0, sent - len(head)) :]
        return sent

    def _on_readable(self) -> None:
        """A reader says nothing; if there is something to read, the stream is over."""
        try:
            self._sock.recv(1)
        except BlockingIOError:
            return
        except OSError:
            pass
        self._end()

    def close(self) -> None:
        """End the stream; what waits is dropped, and nobody is told."""
        self._queue.clear()
        self._rest = b""
        super().close()


class PlainReceiver(_End):
    """The reader's end. ``room(object, at, size, total)`` says to which pull a piece belongs, and where its bytes go
    (None: nobody wants them). It is asked before each read, because that may change while a piece is on its way.
    ``placed(pull, size)``: a piece is there."""

    def __init__(
        self, reactor: Reactor, sock: socket.socket,
        room: Callable[[bytes, int, int, int], tuple[Any, memoryview] | None],
        placed: Callable[[Any, int], None],
        gone: Callable[[], None],
    ) -> None:  # fmt: skip
        super().__init__(reactor, sock, self._read, gone)
        self._room, self._placed = room, placed
        self._head = bytearray(PIECE.size)
        self._have = 0
        self._piece: tuple[bytes, int, int, int] | None = None
        self._done = 0
        self._pull: Any = None
        self._waste = memoryview(bytearray(64 << 10))

    def _read(self) -> None:
        budget = TURN_BYTES
        try:
            while budget > 0 and self._open:
                got = self._read_head() if self._piece is None else self._read_bytes(self._piece)
                if not got:
                    self._end()
                    return
                budget -= got
        except BlockingIOError:
            return
        except OSError:
            self._end()

    def _read_head(self) -> int:
        got = self._sock.recv_into(memoryview(self._head)[self._have :])
        self._have += got
        if self._have < PIECE.size:
            return got
        self._have = 0
        magic, ident, at, total, size = PIECE.unpack(self._head)
        if magic != MAGIC or not 0 < size <= PIECE_BYTES or at + size > total:
            log.warning("a stream of objects was cut: what came is not a piece of one")
            return 0
        self._piece = ident, at, size, total
        self._done = 0
        found = self._room(*self._piece)
        self._pull = None if found is None else found[0]
        return got

    def _read_bytes(self, piece: tuple[bytes, int, int, int]) -> int:
        size = piece[2]
        found = None if self._pull is None else self._room(*piece)
        if found is None or found[0] is not self._pull:
            self._pull = None  # what it was for has ended; the rest is read and dropped
            got = self._sock.recv_into(self._waste[: size - self._done])
        else:
            got = self._sock.recv_into(found[1][self._done :])
        self._done += got
        if self._done == size:
            pull, self._piece, self._pull = self._pull, None, None
            if pull is not None:
                self._placed(pull, size)
        return got

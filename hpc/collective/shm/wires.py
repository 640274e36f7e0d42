"""Connections between ranks of different nodes: plain TCP on the interface of the session, opened when first needed.

Of two ranks the one with the lower number connects. Both prove that they know the key of the group before a byte of the
other is used. A message is a header, the word of its operation and its length, and bytes. What goes to a rank in one
operation, and what comes from it, travel at the same time. So no two ranks wait for each other to read. Messages of
`send` have connections of their own: they may overtake collectives.

Rejected: channels of the session. They go through two raylets, and a gradient would be copied and encrypted four times.
Like those of gloo and NCCL these connections are not encrypted.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from hpc.collective.errors import CollectiveError, CollectiveTimeoutError
from hpc.collective.ops import describe
from hpc.collective.shm.callers import CALL_S, COLLECTIVE, HELLO, MAGIC, NONCE_BYTES, PROOF_BYTES, Callers

_HEADER = struct.Struct("<QQ")
#: The word of a message that says why the group has ended.
_END = (1 << 64) - 1
_TEXT_MOST = 2048
#: Looks before a wait for the network sleeps. The longest sleep, after which it looks at the group.
_LOOKS, _SLEEP_MS = 20, 5
#: A rank whose bytes have stood still for so long is looked for, since its node may have lost its power: TCP would
#: try to reach it for many minutes, and while bytes are under way does not look whether the node is there. A limit of
#: TCP's own (TCP_USER_TIMEOUT) would also end the connection to a rank that is slow to read.
_STILL_S = 2.0
#: How often a rank that is to call is looked for, and how many times its node may stay silent.
_PROBE_S, _SILENT = 1.0, 5
#: Callers that may wait for a rank: at most two connections of every other rank, and as many probes.
_QUEUE = 4096
#: A node that is silent for about 10 s while its bytes are awaited is gone: seconds, seconds, number of probes.
_KEEP_ALIVE = (5, 2, 3)


class Transfer(NamedTuple):
    """Bytes that go to a rank, or come from it."""

    rank: int
    data: np.ndarray


class _Outgoing:
    """A message on its way out."""

    def __init__(self, sock: socket.socket, rank: int, word: int, data: np.ndarray) -> None:
        self.sock, self.rank = sock, rank
        self.left = [memoryview(_HEADER.pack(word, data.nbytes)), data.data]

    def go_on(self) -> bool:
        """Send what fits now. True when all is sent."""
        while self.left:
            try:
                sent = self.sock.sendmsg(self.left)
            except BlockingIOError:
                return False
            while self.left and sent >= len(self.left[0]):
                sent -= len(self.left.pop(0))
            if sent:
                self.left[0] = self.left[0][sent:]
        return True


class _Incoming:
    """A message on its way in."""

    def __init__(self, sock: socket.socket, rank: int, word: int, data: np.ndarray) -> None:
        self.sock, self.rank, self.word = sock, rank, word
        self.nbytes = data.nbytes
        self.header = bytearray(_HEADER.size)
        self.left = memoryview(self.header)
        self.data: memoryview = data.data
        self.in_header = True

    def go_on(self) -> bool:
        """Read what is there. True when all has come.

        Raises EOFError at the end of the connection, _Told for a message that ends the group, _Differs for another
        operation."""
        while True:
            if not len(self.left):
                if not self.in_header:
                    return True
                self._begin()
                continue
            try:
                n = self.sock.recv_into(self.left)
            except BlockingIOError:
                return False
            if not n:
                raise EOFError
            self.left = self.left[n:]

    def _begin(self) -> None:
        word, nbytes = _HEADER.unpack(self.header)
        if word == _END:
            raise _Told(nbytes)
        if word != self.word or nbytes != self.nbytes:
            raise _Differs(word)
        self.in_header, self.left = False, self.data


class _Told(Exception):
    """The other rank says that the group has ended: so many bytes of text follow."""


class _Differs(Exception):
    """The other rank does another operation."""


class _Probe:
    """Tells whether a rank that has yet to call is there: by a connection that waits in the queue of its listener.

    The connection ends with the rank. One serves for the whole wait: a new one each second would fill the queue."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._sock: socket.socket | None = None
        self._looked, self._silent = time.monotonic(), 0

    def is_gone(self) -> bool:
        """Whether the rank has ended, or its node is silent."""
        if time.monotonic() - self._looked < _PROBE_S:
            return False
        gone = self._look()
        self._looked = time.monotonic()
        return gone

    def _look(self) -> bool:
        if self._sock is not None:
            if not _readable(self._sock, 0):
                return False
            try:
                # The end: the rank has looked at its callers, and has dropped this one. So it is there.
                self._sock.recv(1)
            except ConnectionResetError:
                pass
            except OSError:
                return True
            self.close()
        try:
            self._sock = socket.create_connection(self._address, timeout=_PROBE_S)
            # Nothing follows: the rank need not wait to see that this is no call.
            self._sock.shutdown(socket.SHUT_WR)
            _keep_alive(self._sock)
        except ConnectionRefusedError:
            return True
        except OSError:
            self.close()
            self._silent += 1
            return self._silent >= _SILENT
        self._silent = 0
        return False

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None


class _Still:
    """Notices that the bytes of an exchange stand still, and looks for the ranks that they are from, or for."""

    def __init__(self, addresses: Sequence[tuple[str, int]]) -> None:
        self._addresses = addresses
        self._left, self._moved = -1, time.monotonic()
        self._probes: dict[int, _Probe] = {}
        #: A rank that is not there any more.
        self.gone: int | None = None

    def look(self, left: int, ranks: Sequence[int]) -> float:
        """``left`` bytes have yet to come or go. Returns for how many seconds that has been so."""
        now = time.monotonic()
        if left != self._left:
            self._left, self._moved = left, now
            self.close()
            return 0.0
        if now - self._moved > _STILL_S:
            for rank in ranks:
                probe = self._probes.get(rank) or self._probes.setdefault(rank, _Probe(self._addresses[rank]))
                if probe.is_gone():
                    self.gone = rank
        return now - self._moved

    def close(self) -> None:
        for probe in self._probes.values():
            probe.close()
        self._probes.clear()


class Wires:
    """The connections of one rank. ``addresses`` and ``names``: of all ranks of the group. ``check`` raises when the
    group has ended on this node, ``end`` ends it there with a reason."""

    def __init__(
        self,
        rank: int,
        listener: socket.socket,
        key: bytes,
        addresses: Sequence[tuple[str, int]],
        names: Sequence[str],
        timeout_s: float,
        check: Callable[[], None],
        end: Callable[[str], str],
    ) -> None:
        self.rank, self.names = rank, names
        self._listener, self._key, self._addresses = listener, key, addresses
        self._timeout_s, self._check, self._end = timeout_s, check, end
        self._socks: dict[tuple[int, int], socket.socket] = {}
        self._in_the_middle: set[socket.socket] = set()
        self._callers = Callers(rank, listener, self._prove)
        # Messages go beside collectives, in threads of their own: one at a time looks at the callers, and one makes the
        # connection to a rank.
        self._looking = threading.Lock()
        self._calling: dict[tuple[int, int], threading.Lock] = {}

    def exchange(
        self, word: int, sends: Sequence[Transfer], receives: Sequence[Transfer], kind: int = COLLECTIVE
    ) -> None:
        """Send and receive at the same time. Returns when all is done.

        Raises CollectiveError if a rank does something else, has died or left, CollectiveTimeoutError after the time
        limit."""
        outgoing = [_Outgoing(self._to(t.rank, kind, word), t.rank, word, t.data) for t in sends]
        incoming = [_Incoming(self._to(t.rank, kind, word), t.rank, word, t.data) for t in receives]
        looks = 0
        still = _Still(self._addresses)
        try:
            while outgoing or incoming:
                if self._move(outgoing, incoming, word):
                    looks = 0
                    continue
                looks += 1
                if looks < _LOOKS:
                    os.sched_yield()
                    continue
                self._sleep(outgoing, incoming)
                self._check()
                ranks = [item.rank for item in incoming] + [out.rank for out in outgoing]
                for_s = still.look(
                    sum(len(i.left) for i in incoming) + sum(len(v) for o in outgoing for v in o.left), ranks
                )
                if for_s > self._timeout_s:
                    raise self._late(ranks[0], word)
                if still.gone is not None:
                    raise self._gone(still.gone)
        finally:
            still.close()

    def _move(self, outgoing: list[_Outgoing], incoming: list[_Incoming], word: int) -> bool:
        """Go on with all that can. Whether anything was finished; what is finished leaves its list."""
        before = len(outgoing) + len(incoming)
        for out in list(outgoing):
            try:
                if out.go_on():
                    outgoing.remove(out)
                    self._in_the_middle.discard(out.sock)
                else:
                    self._in_the_middle.add(out.sock)
            except OSError:
                # What it said last, perhaps why, is read as long as something of it is awaited.
                if not any(item.rank == out.rank for item in incoming):
                    raise self._gone(out.rank) from None
                outgoing.remove(out)
        for item in list(incoming):
            try:
                if item.go_on():
                    incoming.remove(item)
            except (EOFError, OSError):
                raise self._gone(item.rank) from None
            except _Told as told:
                raise CollectiveError(
                    self._end(self._text(item.sock, told.args[0]) or self._gone_text(item.rank))
                ) from None
            except _Differs as other:
                raise self._differs(item.rank, word, other.args[0]) from None
        return len(outgoing) + len(incoming) < before

    def _sleep(self, outgoing: Sequence[_Outgoing], incoming: Sequence[_Incoming]) -> None:
        poll = select.poll()
        events: dict[int, int] = {}
        for out in outgoing:
            events[out.sock.fileno()] = select.POLLOUT
        for item in incoming:
            events[item.sock.fileno()] = events.get(item.sock.fileno(), 0) | select.POLLIN
        if -1 in events:  # another thread has ended the group: the next move says so
            return
        for fd, event in events.items():
            poll.register(fd, event)
        poll.poll(_SLEEP_MS)

    # -------------------------------------------------------------- connecting

    def _to(self, rank: int, kind: int, word: int) -> socket.socket:
        """The connection to a rank. The first use makes it."""
        sock = self._socks.get((rank, kind))
        if sock is not None:
            return sock
        if rank < self.rank:
            self._await_call(rank, kind, word)
            return self._socks[rank, kind]
        with self._calling.setdefault((rank, kind), threading.Lock()):
            sock = self._socks.get((rank, kind))
            if sock is None:
                sock = self._socks[rank, kind] = self._call(rank, kind, word)
        return sock

    def _await_call(self, rank: int, kind: int, word: int) -> None:
        """Until a rank has called this one."""
        until = time.monotonic() + self._timeout_s
        probe = _Probe(self._addresses[rank])
        try:
            while (rank, kind) not in self._socks:
                if self._looking.acquire(timeout=_SLEEP_MS / 1000):
                    try:
                        came = [] if (rank, kind) in self._socks else self._callers.look(_SLEEP_MS)
                        self._socks.update({(call.rank, call.kind): _ready(call.sock) for call in came})
                    finally:
                        self._looking.release()
                    if came:
                        continue
                self._check()
                if time.monotonic() > until:
                    raise self._late(rank, word)
                if probe.is_gone():
                    raise self._gone(rank)
        finally:
            probe.close()

    def _call(self, rank: int, kind: int, word: int) -> socket.socket:
        try:
            sock = socket.create_connection(self._addresses[rank], timeout=CALL_S)
        except ConnectionError:
            # Refused: its listener is closed. Reset: it closed while this call waited to be accepted.
            raise self._gone(rank) from None
        except OSError as error:
            host, port = self._addresses[rank]
            raise CollectiveError(
                self._end(f"{self.names[self.rank]} cannot connect to {self.names[rank]} at {host}:{port}: {error}")
            ) from None
        try:
            _keep_alive(sock)
            nonce = os.urandom(NONCE_BYTES)
            sock.sendall(HELLO.pack(MAGIC, self.rank, kind, nonce))
            self._await_answer(sock, rank, word)
            answer = _read(sock, NONCE_BYTES + PROOF_BYTES)
            theirs, proof = answer[:NONCE_BYTES], answer[NONCE_BYTES:]
            if not hmac.compare_digest(proof, self._prove(b"answer", rank, nonce)):
                raise CollectiveError(self._end(f"what answers for {self.names[rank]} does not know the group's key"))
            sock.sendall(self._prove(b"call", self.rank, theirs))
        except BaseException as error:
            sock.close()
            if isinstance(error, OSError):
                raise self._gone(rank) from None
            raise
        return _ready(sock)

    def _await_answer(self, sock: socket.socket, rank: int, word: int) -> None:
        """A rank answers when it comes to its own part of the operation."""
        until = time.monotonic() + self._timeout_s
        while not _readable(sock, _SLEEP_MS):
            self._check()
            if time.monotonic() > until:
                raise self._late(rank, word)

    def _prove(self, role: bytes, rank: int, nonce: bytes) -> bytes:
        return hmac.new(self._key, role + struct.pack("<I", rank) + nonce, hashlib.sha256).digest()

    # -------------------------------------------------------------- ends

    def _text(self, sock: socket.socket, nbytes: int) -> str:
        try:
            sock.settimeout(1.0)
            return _read(sock, min(nbytes, _TEXT_MOST)).decode(errors="replace")
        except OSError:
            return ""

    def _gone_text(self, rank: int) -> str:
        return f"{self.names[rank]} has died or left"

    def _gone(self, rank: int) -> CollectiveError:
        self._check()
        return CollectiveError(self._end(self._gone_text(rank)))

    def _differs(self, rank: int, mine: int, other: int) -> CollectiveError:
        text = f"{self.names[self.rank]} calls {describe(mine)}, {self.names[rank]} {describe(other)}"
        return CollectiveError(self._end(f"the ranks do not do the same: {text}"))

    def _late(self, rank: int, word: int) -> CollectiveTimeoutError:
        text = f"{self.names[rank]} did not come to {describe(word)} within {self._timeout_s:g} s"
        return CollectiveTimeoutError(self._end(text))

    def close(self, reason: str | None = None) -> None:
        """Close all connections. The other ends are told the reason, where there is one."""
        text = (reason or "").encode()[:_TEXT_MOST]
        for sock in self._socks.values():
            if text and sock not in self._in_the_middle:
                try:
                    sock.send(_HEADER.pack(_END, len(text)) + text, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
                except OSError:
                    pass
            sock.close()
        self._socks.clear()
        self._callers.close()
        self._listener.close()

    def abandon(self) -> None:
        """In a forked child: close its copies. With them open the others would not notice the end of the rank."""
        for sock in self._socks.values():
            sock.close()
        self._callers.close()
        self._listener.close()


def _read(sock: socket.socket, nbytes: int) -> bytes:
    """Read ``nbytes`` bytes. Raises OSError when the connection ends before."""
    data = b""
    while len(data) < nbytes:
        part = sock.recv(nbytes - len(data))
        if not part:
            raise OSError("the connection ended")
        data += part
    return data


def _readable(sock: socket.socket, milliseconds: int) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(milliseconds))


def _keep_alive(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in zip((socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT), _KEEP_ALIVE):
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _ready(sock: socket.socket) -> socket.socket:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    _keep_alive(sock)
    sock.setblocking(False)
    return sock


def listen(address: str) -> socket.socket:
    """A listener on this address, at a free port."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.bind((address, 0))
        sock.listen(_QUEUE)
        sock.setblocking(False)
        return sock
    except BaseException:
        sock.close()
        raise

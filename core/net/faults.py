"""A TCP proxy that breaks connections on purpose, for tests: cut, stall, half-open, refuse, cut after n bytes.

It runs on the reactor of the test. Rejected: iptables and tc (root, and shared with everything else on the machine;
tests in network namespaces may use them on top).
"""

from __future__ import annotations

import logging
import socket
import struct
from functools import partial

from hpc.core.net.accept import accept_on
from hpc.core.net.reactor import Reactor

log = logging.getLogger(__name__)

CHUNK_BYTES = 64 << 10
MAX_BUFFER_BYTES = 1 << 20  # waiting for one side before the other is no longer read
_ABORT = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: close() sends a reset


class _Proxied:
    """One of the two sockets of a proxied connection, with what waits to be written to it."""

    __slots__ = ("buffer", "dead", "other", "silent", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = bytearray()
        self.other: _Proxied = self
        self.dead = False
        self.silent = False  # half-open: what it sends is swallowed, nothing comes back


class Proxy:
    def __init__(self, reactor: Reactor, host: str, port: int) -> None:
        self._reactor = reactor
        self._target = (host, port)
        self._ends: set[_Proxied] = set()
        self._stalled = False
        self._cut_in_bytes: int | None = None
        self.refusing = False
        self.accepted = 0
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = accept_on(reactor, self._listener, self._on_accept, log.error)

    @classmethod
    def to(cls, reactor: Reactor, endpoint: str) -> Proxy:
        """A proxy in front of "tcp://host:port"."""
        host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
        return cls(reactor, host.strip("[]"), int(port))

    @property
    def endpoint(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        return len(self._ends) // 2

    @property
    def armed(self) -> bool:
        """Whether cut_after() still waits for its bytes."""
        return self._cut_in_bytes is not None

    # -------------------------------------------------------------- faults

    def cut(self) -> None:
        """Reset all connections. New ones are served."""
        self.cuts += 1
        for end in list(self._ends):
            self._drop(end, abort=True)

    def cut_after(self, size_bytes: int | None) -> None:
        """Reset everything once so many further bytes have passed (in the middle of a frame); None: never."""
        self._cut_in_bytes = size_bytes

    def stall(self) -> None:
        """Keep connections, and accept new ones, but move no byte."""
        self._stalled = True
        self._update_all()

    def resume(self) -> None:
        self._stalled = False
        self._update_all()

    def half_open(self, keep: str = "client") -> None:
        """Reset one side of each connection; the kept one ("client" or "target") hears nothing of it."""
        if keep not in ("client", "target"):
            raise ValueError(f"keep is client or target, not {keep!r}")
        for end in list(self._ends):
            if end.dead:
                continue
            is_client = end.sock.getsockname()[1] == self.port
            if is_client == (keep == "client"):
                end.silent = True
                end.buffer.clear()
                self._close(end.other, abort=True)
                self._update(end)

    def close(self) -> None:
        self.cut()
        self._reactor.remove(self._listener.fileno())
        self._acceptor.close()

    # -------------------------------------------------------------- forwarding

    def _on_accept(self) -> None:
        sock = self._acceptor.take()
        if sock is None:
            return
        self.accepted += 1
        if self.refusing:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
            sock.close()
            return
        try:
            target = socket.create_connection(self._target, timeout=1.0)
        except OSError:
            sock.close()
            return
        one, two = _Proxied(sock), _Proxied(target)
        one.other, two.other = two, one
        for end in (one, two):
            end.sock.setblocking(False)
            end.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._ends.add(end)
            self._update(end)

    def _update(self, end: _Proxied) -> None:
        """Wait for what this end can do now."""
        if end.dead:
            return
        fd = end.sock.fileno()
        room = len(end.other.buffer) < MAX_BUFFER_BYTES
        read = end.silent or (not self._stalled and room)
        write = bool(end.buffer) and not self._stalled
        self._reactor.set_reader(fd, partial(self._on_readable, end) if read else None)
        self._reactor.set_writer(fd, partial(self._on_writable, end) if write else None)

    def _update_all(self) -> None:
        for end in list(self._ends):
            self._update(end)

    def _on_readable(self, end: _Proxied) -> None:
        limit = CHUNK_BYTES
        if self._cut_in_bytes is not None and not end.silent:
            limit = max(1, min(limit, self._cut_in_bytes))
        try:
            data = end.sock.recv(limit)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(end, abort=False)
            return
        if end.silent:
            return
        end.other.buffer += data
        self._on_writable(end.other)
        if self._cut_in_bytes is not None:
            self._cut_in_bytes -= len(data)
            if self._cut_in_bytes <= 0:
                self._cut_in_bytes = None
                self.cut()

    def _on_writable(self, end: _Proxied) -> None:
        if end.buffer and not end.dead:
            try:
                sent = end.sock.send(end.buffer)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._drop(end, abort=True)
                return
            del end.buffer[:sent]
        self._update(end)
        self._update(end.other)

    def _close(self, end: _Proxied, abort: bool) -> None:
        if end.dead:
            return
        end.dead = True
        self._reactor.remove(end.sock.fileno())
        if abort:
            end.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        end.sock.close()

    def _drop(self, end: _Proxied, abort: bool) -> None:
        """End the connection that this is an end of."""
        for one in (end, end.other):
            self._close(one, abort)
            self._ends.discard(one)
